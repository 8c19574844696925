"""Read COCO jsons into what all formats are read into, and write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.formats.coco.read import read_coco
from tlvision.formats.coco.rle import mask_area
from tlvision.formats.coco.write import rle_to_json
from tlvision.formats.exchange.labelled import Labels, Outline, Picture, Shape
from tlvision.types import Sample

KIND = "COCO json"
ROBOFLOW = "_annotations.coco.json"


def is_coco(content: object) -> bool:
    """Return whether a json is one of COCO."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def find_roboflow(folder: Path) -> dict[str, Path]:
    """Return the jsons of a dataset as Roboflow exports it, by part: train/_annotations.coco.json and so on."""
    return {
        split: folder / split / ROBOFLOW
        for split in ("train", "valid", "test")
        if (folder / split / ROBOFLOW).is_file()
    }


def read_labels(path: Path, images: Path) -> Labels:
    """Return the labels of a json, with everything that `read_coco` checks and notes."""
    data = read_coco(path, images, require_objects=False)
    names = data.classes.names
    pictures = tuple(
        Picture(each.path.relative_to(images).as_posix(), each.width, each.height, _shapes(each, names))
        for each in data.samples
    )
    return Labels(KIND, images, names, pictures, data.skipped)


def _shapes(sample: Sample, names: Sequence[str]) -> tuple[Shape, ...]:
    shapes = []
    segments = sample.segments or (None,) * len(sample.target.labels)
    target = sample.target
    for label, box, crowd, segment in zip(target.labels, target.boxes, target.crowd, segments, strict=True):
        x0, y0, x1, y1 = (float(value) for value in box)
        rle = rle_to_json(segment) if isinstance(segment, dict) else None
        outlines: tuple[Outline, ...] = ()
        if segment is not None and not isinstance(segment, dict):
            outlines = tuple(tuple(float(value) for value in part.reshape(-1)) for part in segment)
        shapes.append(Shape(names[int(label)], (x0, y0, x1, y1), outlines, rle, bool(crowd)))
    return tuple(shapes)


def to_coco(labels: Labels) -> dict[str, Any]:
    """Return the content of a COCO json: ids count from 1, categories in the order of the classes."""
    ids = {name: number for number, name in enumerate(labels.classes, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(labels.pictures, start=1):
        images.append({"id": image_id, "file_name": picture.file, "width": picture.width, "height": picture.height})
        for shape in picture.shapes:
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": ids[shape.label]}
            annotations.append(row | _geometry(shape))
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _geometry(shape: Shape) -> dict[str, Any]:
    x0, y0, x1, y1 = shape.box
    row: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": int(shape.crowd)}
    if shape.rle is not None:
        return row | {"segmentation": dict(shape.rle), "area": _pixels(shape.rle)}
    if shape.outlines:
        return row | {
            "segmentation": [list(outline) for outline in shape.outlines],
            "area": sum(map(_area, shape.outlines)),
        }
    return row | {"area": (x1 - x0) * (y1 - y0)}


def _pixels(rle: Mapping[str, Any]) -> int:
    from tlvision.formats.coco.rle import parse_segmentation

    found = parse_segmentation(dict(rle), rle["size"][0], rle["size"][1], "mask")
    assert isinstance(found, dict)
    return mask_area(found)


def _area(outline: Outline) -> float:
    """Return the area of a polygon (shoelace formula).

    >>> _area((0.0, 0.0, 4.0, 0.0, 4.0, 3.0, 0.0, 3.0))
    12.0
    """
    xs, ys = outline[::2], outline[1::2]
    pairs = zip(xs, ys, (*xs[1:], xs[0]), (*ys[1:], ys[0]), strict=True)
    return abs(sum(x * v - u * y for x, y, u, v in pairs)) / 2
