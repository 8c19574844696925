"""Write predictions as labels to correct, in the formats of label tools.

COCO: a dataset with a score for each annotation, which FiftyOne, CVAT, Roboflow and others import. CVAT: "CVAT for
images 1.1". Label Studio: tasks with predictions. YOLO: a dataset of images and txt files, without scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from tlvision.files.json_files import write_text
from tlvision.files.names import unique_stems
from tlvision.formats.exchange import Labels, Picture, Shape, write_yolo
from tlvision.types import ClassMap, InputError, Prediction, counted

LOCAL_FILES = "/data/local-files/?d="
"""Prefix of image names in Label Studio for files on its own disk ("local storage")."""


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object: class, score, box x0 y0 x1 y1 in pixels, and the outlines of its mask (each a list of x, y)."""

    label: int
    score: float
    box: tuple[float, float, float, float]
    outlines: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class FoundImage:
    """The objects of one image. name: that tools know the file by. path: of the file. width, height: in pixels."""

    name: str
    path: Path
    width: int
    height: int
    objects: tuple[FoundObject, ...]


@dataclass(slots=True)
class PreAnnotations:
    """Collects the objects of images, without their masks, and writes them in one format.

    classes: names, and the ids that COCO's categories get.
    model:   name of the model, for tools that keep it.
    """

    classes: ClassMap
    model: str
    images: list[FoundImage] = field(default_factory=list)

    def add(self, name: str, path: Path, width: int, height: int, prediction: Prediction) -> None:
        """Add an image. name, path: see `FoundImage`. prediction: numpy, in pixels of the image.

        Raises InputError for a label map, which has no objects.
        """
        if prediction.semantic is not None:
            raise InputError("--format: a label map has no objects to correct; its PNG is the format of label tools")
        masks = prediction.masks if prediction.masks is not None else [None] * len(prediction)
        objects = [
            FoundObject(int(label), round(float(score), 5), _box(box), () if mask is None else outlines(mask))
            for label, score, box, mask in zip(
                prediction.labels, prediction.scores, prediction.boxes, masks, strict=True
            )
        ]
        self.images.append(FoundImage(name, path, width, height, tuple(objects)))

    def text(self, name: str) -> str:
        """Return the content of the file in a format of `FORMATS`."""
        return FORMATS[name][1](self)


def _box(box: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(float(value), 2) for value in box)
    return x0, y0, x1, y1


def outlines(mask: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the outer outlines of a mask, largest first; parts of fewer than three points are left out.

    mask: (H, W) uint8 of 0 and 1. Holes are filled, because polygons have none.

    >>> outlines(np.pad(np.ones((3, 4), np.uint8), 1))
    (((1.0, 1.0), (1.0, 3.0), (4.0, 3.0), (4.0, 1.0)),)
    """
    found, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = sorted((part.reshape(-1, 2) for part in found), key=cv2.contourArea, reverse=True)
    return tuple(tuple((float(x), float(y)) for x, y in part) for part in parts if len(part) >= 3)


def as_coco(found: PreAnnotations) -> str:
    """Return a COCO dataset: images, categories, and annotations with a score."""
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(found.images, start=1):
        for each in image.objects:
            x0, y0, x1, y1 = each.box
            width, height = round(x1 - x0, 2), round(y1 - y0, 2)
            polygons = [[value for point in part for value in point] for part in each.outlines]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": found.classes.source_ids[each.label],
                    "bbox": [x0, y0, width, height],
                    "area": round(width * height, 2),
                    "iscrowd": 0,
                    "score": each.score,
                    **({"segmentation": polygons} if polygons else {}),
                }
            )
    images = [
        {"id": number, "file_name": image.name, "width": image.width, "height": image.height}
        for number, image in enumerate(found.images, start=1)
    ]
    categories = [
        {"id": number, "name": name} for number, name in zip(found.classes.source_ids, found.classes.names, strict=True)
    ]
    return json.dumps({"images": images, "categories": categories, "annotations": annotations})


def as_cvat(found: PreAnnotations) -> str:
    """Return "CVAT for images 1.1": boxes, or polygons where there are masks; the parts of one mask share a group."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    group = 0
    for number, image in enumerate(found.images):
        size = {"width": str(image.width), "height": str(image.height)}
        parent = ElementTree.SubElement(root, "image", {"id": str(number), "name": image.name} | size)
        for each in image.objects:
            common = {"label": found.classes.names[each.label], "source": "auto", "occluded": "0", "z_order": "0"}
            if not each.outlines:
                corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(str, each.box), strict=True))
                ElementTree.SubElement(parent, "box", common | corners)
                continue
            group += len(each.outlines) > 1
            for part in each.outlines:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in part)
                own = {"group_id": str(group)} if len(each.outlines) > 1 else {}
                ElementTree.SubElement(parent, "polygon", common | own | {"points": points})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def as_label_studio(found: PreAnnotations) -> str:
    """Return Label Studio tasks with predictions, for a labeling config with the names "label" and "image".

    Coordinates are percent of the image; images are named as files of its local storage.
    """
    tasks = []
    for image in found.images:
        result = [row for each in image.objects for row in _label_studio_rows(image, each, found.classes.names)]
        prediction: dict[str, Any] = {"model_version": found.model, "result": result}
        if image.objects:
            prediction["score"] = round(float(np.mean([each.score for each in image.objects])), 5)
        tasks.append({"data": {"image": LOCAL_FILES + image.name}, "predictions": [prediction]})
    return json.dumps(tasks)


def _label_studio_rows(image: FoundImage, each: FoundObject, names: Sequence[str]) -> list[dict[str, Any]]:
    def percent(x: float, y: float) -> list[float]:
        return [round(100 * x / image.width, 4), round(100 * y / image.height, 4)]

    name = names[each.label]
    if each.outlines:
        values = [
            {"points": [percent(x, y) for x, y in part], "closed": True, "polygonlabels": [name]}
            for part in each.outlines
        ]
        kind = "polygonlabels"
    else:
        (x, y), (right, bottom) = percent(*each.box[:2]), percent(*each.box[2:])
        side = {"width": round(right - x, 4), "height": round(bottom - y, 4)}
        values, kind = [{"x": x, "y": y, **side, "rotation": 0, "rectanglelabels": [name]}], "rectanglelabels"
    size = {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
    return [
        {"type": kind, "from_name": "label", "to_name": "image", **size, "score": each.score, "value": value}
        for value in values
    ]


FORMATS: dict[str, tuple[str, Callable[[PreAnnotations], str]]] = {
    "coco": ("labels.json", as_coco),
    "cvat": ("labels.xml", as_cvat),
    "label_studio": ("tasks.json", as_label_studio),
}
"""Name of a format -> name of its file, and what writes it."""
_FOLDER = "yolo"
LABEL_FORMATS = (*FORMATS, "yolo")


def write_labels(found: PreAnnotations, label_format: str, folder: Path) -> tuple[Path, list[str]]:
    """Write the objects in one of `LABEL_FORMATS`; return the file that a tool reads, and notes on what is left out."""
    if label_format in FORMATS:
        name, as_text = FORMATS[label_format]
        write_text(folder / name, as_text(found))
        return folder / name, []
    return folder / _FOLDER / "data.yaml", _write_txt(found, folder / _FOLDER)


def _write_txt(found: PreAnnotations, folder: Path) -> list[str]:
    """Write images, txt files and data.yaml, as `write_yolo` does; of a mask the largest part, because a line has one.

    Lines have no score: label tools such as labelImg, and trainers, refuse a sixth number.
    """
    stems = unique_stems([image.name for image in found.images])
    with_masks = any(each.outlines for image in found.images for each in image.objects)
    pictures = tuple(
        Picture(
            f"{stem}{PurePosixPath(image.name).suffix}",
            image.width,
            image.height,
            tuple(_as_shape(each, found.classes.names, with_masks) for each in image.objects),
            source=image.path,
        )
        for stem, image in zip(stems, found.images, strict=True)
    )
    notes = write_yolo({"train": Labels("predictions", folder, found.classes.names, pictures)}, folder)
    several = sum(len(each.outlines) > 1 for image in found.images for each in image.objects)
    if several:
        notes.append(f"{counted(several, 'mask')} of several parts, of which the largest is written")
    return notes


def _as_shape(each: FoundObject, names: Sequence[str], with_masks: bool) -> Shape:
    """Return an object with one outline if there are masks; that of its box if its own mask is empty."""
    x0, y0, x1, y1 = each.box
    outline = tuple(value for point in each.outlines[0] for value in point) if each.outlines else ()
    corners = outline or (x0, y0, x1, y0, x1, y1, x0, y1)
    return Shape(names[each.label], each.box, (corners,) if with_masks else ())
