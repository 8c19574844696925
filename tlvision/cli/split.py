"""`tlvision split LABELS OUT [--images DIR] [--shares train=0.8 val=0.2 | --folds K] [--group-by KEY] [--seed N]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.files.outputs import check_folder, output_folder
from tlvision.types import InputError, counted

if TYPE_CHECKING:
    from tlvision.analysis.split import Division

COMMAND = "split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("labels", metavar="LABELS", help="COCO json, or labels of another tool (`tlvision convert`)")
    parser.add_argument("out", metavar="OUT", help="new folder for the COCO jsons of the parts")
    parser.add_argument("--images", metavar="DIR", help="folder of the images, where it is not found by itself")
    parser.add_argument(
        "--shares", nargs="+", metavar="NAME=SHARE", help="parts and their shares (default: train=0.8 val=0.2)"
    )
    parser.add_argument("--folds", type=int, metavar="K", help="K folds instead: fold0_train.json, fold0_val.json, …")
    parser.add_argument(
        "--group-by",
        metavar="KEY",
        help="keep images of a group together: a key of the json's images (patient), or '^(\\d+)_' for the file name",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--divide-duplicates", action="store_true", help="do not look for near-duplicates")


def run(options: argparse.Namespace) -> None:
    """Divide, write the parts, and print how many images of each class they have."""
    from tlvision.analysis.split import fold_shares, missing_classes, split, without
    from tlvision.files.json_files import write_json

    if options.folds is not None and options.shares is not None:
        raise InputError("split: give either --shares or --folds")
    if options.folds is not None and not 2 <= options.folds <= 100:
        raise InputError(f"split: --folds must be from 2 to 100, got {options.folds}")
    shares = fold_shares(options.folds) if options.folds else _shares(options.shares or ["train=0.8", "val=0.2"])
    source, out = Path(options.labels), Path(options.out)
    check_folder(out, COMMAND, inputs=[source])
    content, images = _read(source, None if options.images is None else Path(options.images))
    division = split(
        content,
        images,
        shares,
        group_by=options.group_by,
        seed=options.seed,
        near_duplicates=not options.divide_duplicates,
    )
    with output_folder(out, COMMAND, inputs=[source]) as folder:
        for name, part in division.parts.items():
            if options.folds:
                write_json(folder / f"{name}_val.json", dict(part))
                write_json(folder / f"{name}_train.json", dict(without(content, part)))
            else:
                write_json(folder / f"{name}.json", dict(part))
    _print(division, out)
    if sentence := missing_classes(division):
        print(f"note: {sentence}")


def _read(source: Path, images: Path | None) -> tuple[dict[str, Any], Path]:
    """Return the content of a COCO json, unchanged, or of other labels as one, and the folder of the images."""
    from tlvision.files.json_input import load_json
    from tlvision.formats.coco import read_coco
    from tlvision.formats.exchange import read_any, to_coco
    from tlvision.formats.exchange.coco import is_coco

    if source.suffix.lower() == ".json" and source.is_file():
        content = load_json(source, "a COCO json")
        if isinstance(content, dict) and is_coco(content):
            beside = source.parent / "images"
            folder = images or (beside if beside.is_dir() else source.parent)
            read_coco(source, folder)  # everything that training refuses
            return content, folder
    parts = read_any(source, images)
    if len(parts) > 1:
        raise InputError(f"split: '{source}' is divided already: {', '.join(parts)}")
    (labels,) = parts.values()
    return to_coco(labels), labels.images


def _shares(given: list[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for each in given:
        name, _, text = each.partition("=")
        try:
            shares[name] = float(text)
        except ValueError:
            raise InputError(f"split: --shares: expected NAME=SHARE, such as train=0.8, got '{each}'") from None
        if not name.isidentifier() or not 0 < shares[name] < 1:
            raise InputError(f"split: --shares: expected a plain name and a share between 0 and 1, got '{each}'")
    if len(shares) < max(2, len(given)) or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"split: --shares: expected two or more different parts, together 1, got {' '.join(given)}")
    return shares


def _print(division: Division, out: Path) -> None:
    from tlvision import terminal

    names = list(division.parts)
    console = terminal.console(140)
    table = terminal.table("images with", *names, right=set(names))
    table.add_row("any", *(str(len(part["images"])) for part in division.parts.values()))
    for name, counts in division.table.items():
        table.add_row(name, *(str(counts[part]) for part in names))
    console.print(table)
    if division.duplicates:
        print(f"{counted(division.duplicates, 'image')} with near-duplicates, which are in one part")
    print(f"parts          {out}")
