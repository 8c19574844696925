"""Write corrected copies of the COCO jsons of a config, a config that names them, and a log; no original is changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlvision.analysis.doctor.fix_images import readable, repeated_images, shared_images
from tlvision.analysis.doctor.fix_rows import WHAT, Change, fix_annotations
from tlvision.analysis.doctor.reading import NAMES
from tlvision.config.load import dump_config
from tlvision.config.paths import INPUTS
from tlvision.config.schema import Config, DatasetSettings
from tlvision.engine.build import render_data
from tlvision.engine.labels import resolve_labels
from tlvision.files.inputs import check_folder, exists
from tlvision.files.json_files import write_json, write_text
from tlvision.files.json_input import load_json
from tlvision.formats.coco import load_document
from tlvision.formats.coco.document import is_integer
from tlvision.types import InputError, Json

_THREADS = 4


@dataclass(slots=True)
class _Copy:
    """The json of a part while it is corrected. kept, removed: image rows by id; files: their paths by id."""

    settings: DatasetSettings
    content: dict[str, Any]
    kept: dict[int, Json]
    removed: dict[int, Json]
    files: dict[int, Path]


def fix_data(config: Config, out: Path) -> tuple[dict[tuple[str, str], int], list[str]]:
    """Write `<part>.json` for each dataset with a COCO json, config.yaml and fixes.jsonl into a folder.

    Images stay where they are. `tlvision train out/config.yaml` uses the corrected jsons. fixes.jsonl has one line for
    each change ("part", "file", "annotation", "what", "before", "after") and one for each problem that is left.

    Returns the number of changes of each kind, by its words for one and several, and a sentence on each problem that is
    left.

    Raises InputError if labels of another format cannot be converted.
    """
    render_data(config)
    config, _ = resolve_labels(config)
    copies: dict[str, _Copy] = {}
    changes: list[Change] = []
    left: list[str] = []
    for name in NAMES:
        settings: DatasetSettings | None = getattr(config.data, name)
        if settings is None:
            continue
        try:
            copies[name] = _opened(settings)
        except InputError as error:
            left.append(f"data.{name}: not changed: {error}")
    for name, copy in copies.items():
        _remove_unreadable(name, copy, changes, left)
        _remove_repeated(name, copy, changes, left)
    for other in ("val", "source_val"):
        if "train" in copies and other in copies:
            _remove_shared(copies["train"], copies[other], other, changes, left)
    for name, copy in copies.items():
        categories = {row.get("id") for row in copy.content["categories"]}
        rows, found, problems = fix_annotations(
            name,
            copy.content["annotations"],
            copy.kept,
            copy.removed,
            {each for each in categories if is_integer(each)},
        )
        changes += found
        left += problems
        fixed = {**copy.content, "images": list(copy.kept.values()), "annotations": rows}
        write_json(out / f"{name}.json", fixed, nan="keep")
        left += _remaining(name, out / f"{name}.json")
    write_text(out / "config.yaml", dump_config(_fixed_config(config, list(copies))))
    _write_log(out / "fixes.jsonl", changes, left)
    counts = Counter(change.what for change in changes)
    return {words: counts[what] for what, words in WHAT.items() if counts[what]}, left


def _opened(settings: DatasetSettings) -> _Copy:
    """Return the json of a dataset; InputError if it is none, or its images and classes cannot be told apart."""
    if settings.json_ is None or settings.masks is not None:
        raise InputError("only COCO jsons of objects are corrected, not label maps")
    content = load_json(Path(settings.json_), "a COCO json")
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(row, dict) for row in content[key]) for key in keys
    ):
        raise InputError(f"{settings.json_} has no lists 'images', 'annotations' and 'categories'")
    images: list[Json] = content["images"]
    if not all(is_integer(row.get("id")) and isinstance(row.get("file_name"), str) for row in images):
        raise InputError(f"{settings.json_} has images without an integer 'id' or a 'file_name'")
    kept = {row["id"]: row for row in images}
    if len(kept) < len(images):
        raise InputError(f"{settings.json_} has several images with one id")
    folder = Path(settings.images)
    check_folder(folder, "the image folder")
    files = {number: folder / row["file_name"].replace("\\", "/") for number, row in kept.items()}
    return _Copy(settings, content, kept, {}, files)


def _remove(name: str, copy: _Copy, number: int, what: str, changes: list[Change]) -> None:
    row = copy.kept.pop(number)
    copy.removed[number] = row
    changes.append(Change(name, row["file_name"], None, what, row))


def _remove_unreadable(name: str, copy: _Copy, changes: list[Change], left: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        fine = dict(zip(copy.files, pool.map(readable, copy.files.values()), strict=True))
    if not any(fine.values()):
        left.append(f"data.{name}: no image in '{copy.settings.images}' can be read, so none was removed")
        return
    for number in [number for number, good in fine.items() if not good]:
        _remove(name, copy, number, "image_unreadable", changes)


def _remove_repeated(name: str, copy: _Copy, changes: list[Change], left: list[str]) -> None:
    for number, first, equal in repeated_images(copy.kept, copy.files, copy.content["annotations"]):
        if equal:
            _remove(name, copy, number, "image_repeated", changes)
        else:
            files = [copy.kept[each]["file_name"] for each in (first, number)]
            left.append(
                f"data.{name}: {files[0]} (image {first}) and {files[1]} (image {number}) have the same content and "
                "different labels. Remove one by hand"
            )


def _remove_shared(train: _Copy, other: _Copy, name: str, changes: list[Change], left: list[str]) -> None:
    if train.settings.json_ == other.settings.json_:
        if train.settings.subset is None or other.settings.subset is None:
            left.append(f"data.train and data.{name} are the same json. Divide it (tlvision split)")
        return  # each takes a part of one file
    for number in shared_images(train.kept, train.files, [other.files[each] for each in other.kept]):
        _remove("train", train, number, "image_in_validation", changes)


def _remaining(name: str, path: Path) -> list[str]:
    """Return the first problem of the form of a corrected json, which has to be corrected by hand."""
    try:
        load_document(path, require_objects=False)
    except InputError as error:
        return [f"data.{name}: {error}"]
    return []


def _fixed_config(config: Config, names: list[str]) -> Config:
    """Return the config with the corrected jsons, which lie next to it, and absolute paths of everything else."""
    values = config.model_dump(mode="json", by_alias=True)
    for keys in INPUTS:
        *above, last = keys
        place: Any = values
        for key in above:
            place = place.get(key) if isinstance(place, Mapping) else None
        if isinstance(place, dict) and isinstance(place.get(last), str) and place[last] and exists(place[last]):
            place[last] = str(Path(place[last]).resolve())
    for name in names:
        values["data"][name]["json"] = f"{name}.json"
    values["data"]["render"] = None  # what it renders exists
    return Config.model_validate(values)


def _write_log(path: Path, changes: list[Change], left: list[str]) -> None:
    lines = [json.dumps(asdict(change)) for change in changes] + [json.dumps({"left": sentence}) for sentence in left]
    write_text(path, "".join(f"{line}\n" for line in lines))
