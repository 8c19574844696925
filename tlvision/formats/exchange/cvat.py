"""Read CVAT's xml for images (version 1.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from tlvision.formats.coco.rle import mask_to_rle
from tlvision.formats.coco.rules import LIMIT
from tlvision.formats.coco.write import rle_to_json
from tlvision.formats.exchange.labelled import Box, ImageIndex, Labels, LeftOut, Picture, Shape, bounds, check_size
from tlvision.formats.exchange.xml_text import number, parse_xml
from tlvision.types import InputError
from tlvision.types.shown import clip, shown

KIND = "CVAT xml"
_IGNORED = frozenset({"attribute", "tag"})


def read_cvat(path: Path, images: Path | None = None) -> dict[str, Labels]:
    """Return the labels of a file by subset, "all" if there are none.

    images: default the folder `images` beside it, else its own folder.

    A rotated box is a polygon of its corners. Points, lines, cuboids and skeletons are left out, and counted.
    """
    root = parse_xml(path, "annotations")
    if root.find("track") is not None:
        raise InputError(f"{path.name}: tracks of a video; export it as 'CVAT for images 1.1'")
    beside = path.parent / "images"
    index, left_out = ImageIndex(images or (beside if beside.is_dir() else path.parent)), LeftOut()
    classes = tuple(dict.fromkeys((label.findtext("name") or "").strip() for label in root.iter("label") if len(label)))
    parts: dict[str, list[Picture]] = {}
    seen: set[str] = set()
    for image in root.iter("image"):
        name = image.get("name") or ""
        where = f"{path.name}, image '{clip(name)}'"
        file = index.find(name, path.name)
        if file in seen:
            raise InputError(f"{where}: is described twice")
        seen.add(file)
        declared = (int(number(image, "width", where)), int(number(image, "height", where)))
        width, height = check_size(index.header(file), declared, where)
        shapes = [shape for each in image if (shape := _shape(each, where, (width, height), left_out)) is not None]
        for shape in shapes:
            if shape.label not in classes:
                classes = (*classes, shape.label)
        parts.setdefault(image.get("subset") or "all", []).append(Picture(file, width, height, tuple(shapes)))
    if not parts:
        raise InputError(f"{path.name}: has no image")
    for file in sorted(index.files.keys() - seen):
        left_out.add("images that the xml does not have", file)
    notes = left_out.notes()
    return {name: Labels(KIND, index.folder, classes, tuple(found), notes) for name, found in parts.items()}


def _shape(each: Element, where: str, size: tuple[int, int], left_out: LeftOut) -> Shape | None:
    label = each.get("label") or ""
    if each.tag in _IGNORED:
        return None
    if not label:
        raise InputError(f"{where}: a {each.tag} has no label")
    where = f"{where}, {each.tag} '{clip(label)}'"
    if each.tag == "box":
        box = tuple(number(each, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        angle = number(each, "rotation", where) if each.get("rotation") else 0.0
        return _rotated(label, (box[0], box[1], box[2], box[3]), angle)
    if each.tag in ("polygon", "ellipse"):
        outline = _points(each, where) if each.tag == "polygon" else _ellipse(each, where)
        return Shape(label, bounds([outline]), (outline,))
    if each.tag == "mask":
        rle, box = _mask(each, where, size)
        return Shape(label, box, rle=rle)
    left_out.add(f"shapes of type '{each.tag}' left out", where)
    return None


def _rotated(label: str, box: Box, angle: float) -> Shape:
    if not angle % 360:
        return Shape(label, box)
    x0, y0, x1, y1 = box
    x, y, cos, sin = (x0 + x1) / 2, (y0 + y1) / 2, math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    turned = [(x + (u - x) * cos - (v - y) * sin, y + (u - x) * sin + (v - y) * cos) for u, v in corners]
    outline = tuple(value for corner in turned for value in corner)
    return Shape(label, bounds([outline]), (outline,))


def _points(each: Element, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(value) for pair in (each.get("points") or "").split(";") for value in pair.split(","))
    except ValueError:
        values = ()
    if len(values) < 6 or len(values) % 2 or not all(abs(value) < LIMIT for value in values):  # nan as well
        raise InputError(f"{where}: points: expected three or more pairs 'x,y;x,y', got {shown(each.get('points'))}")
    return values


def _ellipse(each: Element, where: str) -> tuple[float, ...]:
    x, y, a, b = (number(each, key, where) for key in ("cx", "cy", "rx", "ry"))
    angles = [2 * math.pi * step / 36 for step in range(36)]
    return tuple(value for t in angles for value in (x + a * math.cos(t), y + b * math.sin(t)))


def _mask(each: Element, where: str, size: tuple[int, int]) -> tuple[Mapping[str, Any], Box]:
    """Return a mask in COCO's run lengths; CVAT has those of its box, row by row, beginning with background."""
    left, top, width, height = (int(number(each, key, where)) for key in ("left", "top", "width", "height"))
    try:
        counts = [int(count) for count in (each.get("rle") or "").split(",")]
    except ValueError:
        raise InputError(f"{where}: rle: expected whole numbers, got {shown(each.get('rle'))}") from None
    inside = 0 <= left < left + width <= size[0] and 0 <= top < top + height <= size[1]
    if sum(counts) != width * height or not inside or min(counts) < 0:
        raise InputError(f"{where}: rle: {sum(counts)} pixels for a box of {width} x {height} at {left}, {top}")
    inner = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8).reshape(height, width)
    whole = np.zeros((size[1], size[0]), np.uint8)
    whole[top : top + height, left : left + width] = inner
    box = (float(left), float(top), float(left + width), float(top + height))
    return rle_to_json(mask_to_rle(whole.astype(bool))), box
