"""`tlvision convert IN OUT [--to coco | yolo] [--images DIR]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.files.json_files import write_json
from tlvision.files.outputs import check_folder, output_folder
from tlvision.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tlvision.formats.exchange import Labels

COMMAND = "convert"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "labels",
        metavar="IN",
        help="labels of COCO, YOLO (data.yaml), Pascal VOC, LabelMe, CVAT (xml for images), Label Studio (json) or "
        "Open Images (csv): a file or a folder",
    )
    parser.add_argument("out", metavar="OUT", help="new folder")
    parser.add_argument("--to", choices=("coco", "yolo"), default="coco", help="default: coco")
    parser.add_argument("--images", metavar="DIR", help="folder of the images, where it is not found by itself")


def run(options: argparse.Namespace) -> None:
    """Convert, and print what was found and how a config reads it."""
    from tlvision.formats.exchange import read_any, write_yolo
    from tlvision.formats.exchange.coco import KIND

    source, out = Path(options.labels), Path(options.out)
    check_folder(out, COMMAND, inputs=[source])
    parts = read_any(source, None if options.images is None else Path(options.images))
    if options.to == "coco" and all(part.kind == KIND for part in parts.values()):
        raise InputError(f"convert: '{source}' is COCO already; use it as it is:\n{_as_config(parts, source)}")
    for name, part in parts.items():
        print(f"{name:<6} {part.summary()}")
        for note in part.notes:
            print(f"       note: {note}")
    with output_folder(out, COMMAND, inputs=[source]) as folder:
        if options.to == "yolo":
            for note in write_yolo(parts, folder):
                print(f"       note: {note}")
        else:
            _write_coco(parts, folder)
    if options.to == "yolo":
        print(f"data.yaml      {out / 'data.yaml'}")
    else:
        print(f"in a config:\n{_as_config(parts, out)}")


def _write_coco(parts: Mapping[str, Labels], folder: Path) -> None:
    from tlvision.formats.exchange import to_coco

    for name, part in parts.items():
        write_json(folder / f"{name}.json", to_coco(part))


_KEYS = {"all": "train", "valid": "val", "test": "val"}


def _as_config(parts: Mapping[str, Labels], out: Path) -> str:
    """Return the section `data` that reads the parts; a part for testing stands for val where there is no other."""
    keys: dict[str, tuple[Path, Path]] = {}
    for name, part in parts.items():
        path = out / f"{name}.json" if not out.is_file() else out
        if (out / name / "_annotations.coco.json").is_file():
            path = out / name / "_annotations.coco.json"
        keys.setdefault(_KEYS.get(name, name), (path, part.images))
    lines = [f"  {key}: {{json: {path}, images: {images}}}" for key, (path, images) in keys.items()]
    return "\n".join(["data:", *lines])
