"""Read Label Studio's json: a list of tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from tlvision.files.json_input import load_json
from tlvision.formats.coco.rules import LIMIT
from tlvision.formats.exchange.labelled import (
    ImageIndex,
    Labels,
    LeftOut,
    Picture,
    Shape,
    bounds,
    check_size,
    names_of,
)
from tlvision.types import InputError, counted
from tlvision.types.shown import shown

KIND = "Label Studio"
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def is_label_studio(content: object) -> bool:
    """Return whether a json is an export of Label Studio."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "data" in content[0]


def read_label_studio(path: Path, images: Path | None = None) -> dict[str, Labels]:
    """Return the labels of an export ("JSON", not "JSON-MIN").

    images: default the folder `images` beside it, else its own folder. Names of uploaded files are found with and
            without the eight characters that Label Studio puts in front.

    Rectangles and polygons are objects; turned rectangles are polygons. Of several annotators the first one counts.
    """
    content = load_json(path, "an export of Label Studio")
    beside = path.parent / "images"
    index, left_out, seen = ImageIndex(images or (beside if beside.is_dir() else path.parent)), LeftOut(), set[str]()
    pictures, several = [], 0
    assert isinstance(content, list)
    for number, task in enumerate(content):
        where = f"{path.name}, task {task.get('id', number) if isinstance(task, Mapping) else number}"
        if not isinstance(task, Mapping) or not isinstance(task.get("annotations"), list):
            raise InputError(f"{where}: expected 'data' and 'annotations'; export as JSON, not JSON-MIN")
        file = _image(task.get("data"), index, where)
        if file in seen:
            raise InputError(f"{where}: image '{file}' is that of another task too; remove one")
        seen.add(file)
        answers = _rows(task["annotations"], "annotations", where)
        answers = [each for each in answers if not each.get("was_cancelled")]
        several += len(answers) > 1
        if not answers:
            left_out.add("tasks without an annotation", where)
            continue
        rows = _rows(answers[0].get("result") or [], "result", where)
        sizes = [(row["original_width"], row.get("original_height", 0)) for row in rows if row.get("original_width")]
        if wrong := [size for size in sizes if not {*map(type, size)} <= {int, float}]:
            raise InputError(f"{where}: original_width and original_height: expected numbers, got {shown(wrong[0])}")
        width, height = check_size(index.header(file), sizes[0] if sizes else (0, 0), where)
        shapes = [shape for row in rows if (shape := _shape(row, where, width, height, left_out)) is not None]
        pictures.append(Picture(file, width, height, tuple(shapes)))
    notes = [*left_out.notes()]
    if several:
        notes.append(f"{counted(several, 'task')} with several annotations: the first one counts")
    return {"all": Labels(KIND, index.folder, names_of(pictures), tuple(pictures), tuple(notes))}


def _rows(value: Any, key: str, where: str) -> list[Mapping[str, Any]]:
    """Return a list of objects."""
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise InputError(f"{where}: {key}: expected a list of objects, got {shown(value)}")
    return value


def _image(data: Any, index: ImageIndex, where: str) -> str:
    """Return the file of a task: that of the first value of its data that names an image."""
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, Mapping) else []
    names = [value for value in values if "." in PurePosixPath(value).name or "?d=" in value]
    if not names:
        raise InputError(f"{where}: data names no image")
    name = unquote(names[0].split("?d=")[-1].split("?")[0])
    try:
        return index.find(name, where)
    except InputError:
        short = _UPLOADED.sub("", PurePosixPath(name).name)
        if short == PurePosixPath(name).name:
            raise
        return index.find(short, where)


def _shape(row: Mapping[str, Any], where: str, width: int, height: int, left_out: LeftOut) -> Shape | None:
    kind, value = str(row.get("type")), row.get("value")
    if kind not in ("rectanglelabels", "polygonlabels"):
        if kind.endswith("labels"):
            left_out.add(f"results of type '{kind}' left out", where)
        return None
    names = value.get(kind) if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(names, list) or len(names) != 1:
        found = len(names) if isinstance(names, list) else 0
        raise InputError(f"{where}: a result of type '{kind}' has {found} labels; it needs one")
    try:
        outline = _outline(value, kind, width, height)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: a result of type '{kind}' lacks numbers: {shown(dict(value))}") from None
    if len(outline) < 6:
        raise InputError(f"{where}: a polygon {shown(names[0])} with {len(outline) // 2} points; it needs 3")
    if not all(abs(number) < LIMIT for number in outline):  # nan as well
        raise InputError(f"{where}: {shown(names[0])}: expected finite numbers")
    plain = kind == "rectanglelabels" and not value.get("rotation")
    return Shape(str(names[0]), bounds([outline]), () if plain else (outline,))


def _outline(value: Mapping[str, Any], kind: str, width: int, height: int) -> tuple[float, ...]:
    """Return the corners in pixels; the format has per cent of width and height."""
    if kind == "polygonlabels":
        return tuple(v for x, y in value["points"] for v in (float(x) * width / 100, float(y) * height / 100))
    x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
    w, h = float(value["width"]) * width / 100, float(value["height"]) * height / 100
    angle = math.radians(float(value.get("rotation") or 0))  # clockwise, about the first corner
    corners = ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
    cos, sin = math.cos(angle), math.sin(angle)
    return tuple(v for u, t in corners for v in (x + u * cos - t * sin, y + u * sin + t * cos))
