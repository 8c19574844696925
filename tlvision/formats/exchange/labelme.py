"""Read LabelMe: a folder of json files, one an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlvision.files.inputs import check_inside
from tlvision.files.json_input import load_json
from tlvision.formats.coco.rules import LIMIT
from tlvision.formats.exchange.labelled import (
    ImageIndex,
    Labels,
    LeftOut,
    Outline,
    Picture,
    Shape,
    bounds,
    check_size,
    names_of,
)
from tlvision.types import InputError
from tlvision.types.shown import shown

KIND = "LabelMe"


def is_labelme(content: object) -> bool:
    """Return whether a json is that of LabelMe."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def find_jsons(folder: Path) -> list[Path]:
    """Return the json files of LabelMe in a folder and below; [] if its first one is none."""
    files = sorted(folder.rglob("*.json"))
    check_inside(folder, files, str(folder))
    return files if files and is_labelme(load_json(files[0], "a json file of LabelMe")) else []


def read_labelme(folder: Path, images: Path | None = None) -> dict[str, Labels]:
    """Return the labels of a folder.

    images: default the folder itself.

    Polygons and rectangles are objects; polygons of one label and one `group_id` are one object. Circles become
    polygons of 36 corners. Points, lines and masks are left out, and counted.
    """
    index, left_out, seen = ImageIndex(images or folder), LeftOut(), dict[str, str]()
    pictures = []
    for path in find_jsons(folder):
        content = load_json(path, "a json file of LabelMe")
        if not isinstance(content, dict) or not is_labelme(content):
            raise InputError(f"{path.name}: expected the keys shapes and imagePath, as LabelMe writes them")
        file = index.find(str(content["imagePath"]), path.name)
        if file in seen:
            raise InputError(f"{path.name}: image '{file}' is that of {seen[file]} too; remove one")
        seen[file] = path.name
        declared = (_side(content, "imageWidth", path.name), _side(content, "imageHeight", path.name))
        width, height = check_size(index.header(file), declared, path.name)
        pictures.append(Picture(file, width, height, _shapes(content["shapes"], path.name, left_out)))
    for file in sorted(index.files.keys() - seen.keys()):
        left_out.add("images without a json file", file)
    return {"all": Labels(KIND, index.folder, names_of(pictures), tuple(pictures), left_out.notes())}


def _side(content: Mapping[str, Any], key: str, where: str) -> int:
    """Return the width or height of an image in pixels, 0 where the file has none."""
    value = content.get(key) or 0
    if type(value) is not int:
        raise InputError(f"{where}: {key}: expected a whole number, got {shown(value)}")
    return value


def _shapes(rows: Any, name: str, left_out: LeftOut) -> tuple[Shape, ...]:
    if not isinstance(rows, list):
        raise InputError(f"{name}: shapes: expected a list")
    groups: dict[object, list[tuple[str, Outline, bool]]] = {}
    for number, row in enumerate(rows):
        where = f"{name}, shape {number}"
        if not isinstance(row, Mapping) or not isinstance(row.get("label"), str) or not row["label"]:
            raise InputError(f"{where}: has no label")
        outline = _outline(row, where)
        if outline is None:
            left_out.add(f"shapes of type '{row.get('shape_type')}' left out", where)
            continue
        group = row.get("group_id")
        key = number if group is None else (row["label"], str(group))
        groups.setdefault(key, []).append((row["label"], outline, row.get("shape_type") == "rectangle"))
    return tuple(_shape(parts) for parts in groups.values())


def _shape(parts: list[tuple[str, Outline, bool]]) -> Shape:
    outlines = tuple(outline for _, outline, _ in parts)
    box_only = all(rectangle for *_, rectangle in parts)
    return Shape(parts[0][0], bounds(outlines), () if box_only else outlines)


def _outline(row: Mapping[str, Any], where: str) -> Outline | None:
    """Return the corners of a shape, None of a kind that has no area."""
    kind = row.get("shape_type") or "polygon"
    if kind not in ("polygon", "rectangle", "circle"):
        return None
    try:
        points = [(float(x), float(y)) for x, y in row["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: points: expected pairs of numbers") from None
    if not all(abs(value) < LIMIT for point in points for value in point):  # nan as well
        raise InputError(f"{where}: points: expected finite numbers")
    if kind == "polygon":
        if len(points) < 3:
            raise InputError(f"{where}: a polygon with {len(points)} points; it needs 3")
        return tuple(value for point in points for value in point)
    if len(points) < 2:
        raise InputError(f"{where}: a {kind} with {len(points)} points; it needs 2")
    if kind == "rectangle":
        x0, y0, x1, y1 = bounds([tuple(value for point in points for value in point)])
        return (x0, y0, x1, y0, x1, y1, x0, y1)
    (x, y), edge = points[0], points[1]
    radius = math.dist(points[0], edge)
    angles = [2 * math.pi * step / 36 for step in range(36)]
    return tuple(value for a in angles for value in (x + radius * math.cos(a), y + radius * math.sin(a)))
