"""A small sound dataset, the ways to spoil it, and the entries through which a case is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

Json = dict[str, Any]
Build = Callable[[Path], object]
Read = Callable[[Path], Sequence[str]]
Edit = Callable[[Json], object]
SIZE = (40, 24)
"""Width and height of both images."""
NAN, INF, HUGE = float("nan"), float("inf"), 10**400


@dataclass(frozen=True, slots=True)
class Case:
    """A hostile dataset.

    build: writes it into an empty folder. read: reads that folder as a user's command does, and returns the notes.
    words: of the sentence that refuses it, or with `noted` of the note that counts and lists what was skipped. They
           name the culprit: file, annotation, image or object.
    """

    name: str
    build: Build
    read: Read
    words: str
    noted: bool = False


def document() -> Json:
    """Return a COCO json of two images and six objects of two classes, with masks."""
    boxes = [[2, 2, 8, 6], [12, 3, 9, 9], [24, 5, 7, 12], [3, 12, 6, 7], [14, 14, 10, 5], [30, 1, 6, 6]]
    return {
        "images": [{"id": 1 + k, "file_name": f"{'ab'[k]}.png", "width": 40, "height": 24} for k in range(2)],
        "categories": [{"id": 3, "name": "bolt"}, {"id": 90, "name": "nut"}],
        "annotations": [
            {"id": k + 1, "image_id": 1 + k % 2, "category_id": (3, 90)[k % 2], "bbox": [x, y, w, h], "area": w * h}
            | {"iscrowd": 0, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
            for k, (x, y, w, h) in enumerate(boxes)
        ],
    }


def put(where: str, value: object) -> Edit:
    """Return an edit that sets a value: "annotations.0.bbox"; "annotations.*.bbox" sets it in every row."""

    def change(content: Json) -> None:
        *path, last = where.split(".")
        places: list[Any] = [content]
        for key in path:
            places = [row for place in places for row in (place if key == "*" else [place[_key(key)]])]
        for place in places:
            place[_key(last)] = value

    return change


def drop_sizes(content: Json) -> None:
    """Remove the sizes of the images, which are then those of the files."""
    for row in content["images"]:
        del row["width"], row["height"]


def _key(text: str) -> Any:
    return int(text) if text.isdigit() else text


def images(folder: Path) -> Path:
    """Write the two images."""
    (folder / "images").mkdir(exist_ok=True)
    for shade, name in ((20, "a.png"), (90, "b.png")):
        Image.new("RGB", SIZE, (shade, shade, shade)).save(folder / "images" / name)
    return folder / "images"


NESTED = "@nested@"
"""A value that is written as 900 nested lists, which Python's own functions on nested values cannot follow."""


def coco(*edits: Edit) -> Build:
    """Return a builder of the dataset with edits of its json."""

    def build(folder: Path) -> None:
        images(folder)
        content = document()
        for edit in edits:
            edit(content)
        text = json.dumps(content)
        (folder / "labels.json").write_text(re.sub(f'"{NESTED}"', "[" * 900 + "1" + "]" * 900, text))

    return build


def raw(data: bytes) -> Build:
    """Return a builder of the dataset with these bytes as its json."""

    def build(folder: Path) -> None:
        images(folder)
        (folder / "labels.json").write_bytes(data)

    return build


def with_file(name: str, data: bytes) -> Build:
    """Return a builder of the dataset in which a file of the folder has other bytes."""

    def build(folder: Path) -> None:
        coco()(folder)
        (folder / name).write_bytes(data)

    return build


def read_boxes(folder: Path) -> Sequence[str]:
    """Read as a training of boxes does."""
    from tlvision.formats.coco import read_coco

    return read_coco(folder / "labels.json", folder / "images").skipped


def read_masks(folder: Path) -> Sequence[str]:
    """Read as a training of instance masks does."""
    from tlvision.formats.coco import read_coco

    return read_coco(folder / "labels.json", folder / "images", require_masks=True).skipped


def decode(folder: Path) -> Sequence[str]:
    """Read, then decode every image as a loading process does."""
    from tlvision.data.images import read_image
    from tlvision.formats.coco import read_coco

    data = read_coco(folder / "labels.json", folder / "images")
    for each in data.samples:
        read_image(each.path, each.width, each.height, each.exif, bits=each.bits)
    return data.skipped


def convert(folder: Path) -> Sequence[str]:
    """Read the labels of a tool in `labels`, or in the only file there, as `tlvision convert` does."""
    from tlvision.formats.exchange import read_any, to_coco

    source = folder / "labels"
    files = [path for path in source.iterdir() if path.name == "export" + path.suffix]
    parts = read_any(files[0] if files else source, folder / "images")
    for part in parts.values():
        json.dumps(to_coco(part), allow_nan=False)
    return [note for part in parts.values() for note in part.notes]


def evaluate(kind: str = "both") -> Read:
    """Return an entry that evaluates predictions.json against labels.json; kind: boxes, or boxes and masks."""

    def read(folder: Path) -> Sequence[str]:
        from tlvision.evaluation import coco_map, instance_map
        from tlvision.evaluation.summary import warnings_of

        measure = instance_map if kind == "both" else coco_map
        return warnings_of(measure(folder / "labels.json", folder / "predictions.json"))

    return read
