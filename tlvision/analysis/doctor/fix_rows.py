"""Safe corrections of the rows of a COCO json: what is removed can neither be learned nor measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlvision.formats.coco.annotators import annotator_of
from tlvision.formats.coco.document import is_integer
from tlvision.formats.coco.rules import as_floats, check_boxes
from tlvision.formats.coco.suspicion import suspect_boxes
from tlvision.types import InputError, Json

WHAT = {
    "image_unreadable": ("image that cannot be read removed", "images that cannot be read removed"),
    "image_repeated": ("image with the same content and labels as another removed",) * 2,
    "image_in_validation": ("training image that is in validation removed", "training images in validation removed"),
    "annotation_of_removed_image": ("annotation of a removed image removed", "annotations of removed images removed"),
    "annotation_without_image": ("annotation of an unknown image removed", "annotations of unknown images removed"),
    "annotation_without_class": ("annotation of an unknown class removed", "annotations of unknown classes removed"),
    "annotation_without_box": (
        "annotation without a box of finite numbers removed",
        "annotations without a box of finite numbers removed",
    ),
    "box_empty": ("box without an area removed", "boxes without an area removed"),
    "box_outside": ("box outside of its image removed", "boxes outside of their images removed"),
    "box_clipped": ("box clipped to its image", "boxes clipped to their images"),
    "annotation_repeated": ("annotation that repeats another one removed", "annotations that repeat others removed"),
}
"""Each kind of change, with words for one and for several."""


@dataclass(frozen=True, slots=True)
class Change:
    """One correction: the row before and after it; `after` is None for a row that was removed."""

    part: str
    file: str | None
    annotation: Any
    what: str
    before: Json
    after: Json | None = None


def fix_annotations(
    part: str,
    rows: Sequence[Json],
    images: Mapping[int, Json],
    removed: Mapping[int, Json],
    categories: Collection[int],
) -> tuple[list[Json], list[Change], list[str]]:
    """Return corrected annotations, the changes, and a sentence on each problem that is left.

    images:     rows of the images that stay, by id; without "width" and "height" no box is clipped.
    removed:    rows of the images that were removed, by id.
    categories: known category ids.
    """
    changes: list[Change] = []
    left: list[str] = []
    names: dict[Any, str | None] = {number: row.get("file_name") for number, row in {**removed, **images}.items()}

    def change(row: Json, what: str, after: Json | None = None) -> None:
        image = row.get("image_id")
        file = names.get(image) if is_integer(image) else None
        changes.append(Change(part, file, row.get("id"), what, row, after))

    kept: list[Json] = []
    for row in rows:
        what = _unusable(row, images, removed, categories)
        if what is None:
            kept.append(row)
        elif what:
            change(row, what)
        else:
            kept.append(row)
            left.append(f"data.{part}: annotation {row.get('id')} has a mask and no box. Write its box by hand")
    boxed = [row for row in kept if row.get("bbox") is not None]
    sizes = np.array([_size(images[row["image_id"]]) for row in boxed], np.float64).reshape(-1, 2)
    xywh = as_floats([row["bbox"] for row in boxed])
    positive = (xywh[:, 2:] > 0).all(1)
    try:
        doubt = suspect_boxes(xywh[positive], sizes[positive], f"data.{part}")
    except InputError as error:
        doubt = str(error)
    if doubt:
        return kept, changes, [*left, f"{doubt}. No box was changed"]
    checked = check_boxes(xywh, sizes)
    fixed: dict[int, Json | None] = {}
    for number, row in enumerate(boxed):
        if checked.empty[number] or checked.outside[number]:
            change(row, "box_empty" if checked.empty[number] else "box_outside")
            fixed[id(row)] = None
        elif checked.clipped[number]:
            after = _clipped(row, [float(value) for value in np.clip(_corners(xywh[number]), 0, [*sizes[number]] * 2)])
            change(row, "box_clipped", after)
            fixed[id(row)] = after
    kept = [new for row in kept if (new := fixed.get(id(row), row)) is not None]
    return _once(kept, change), changes, left


def _unusable(
    row: Json, images: Mapping[int, Json], removed: Mapping[int, Json], categories: Collection[int]
) -> str | None:
    """Return the key of WHAT for a row that is removed, None for a sound one, "" for one to correct by hand."""
    image, category, box = row.get("image_id"), row.get("category_id"), row.get("bbox")
    if is_integer(image) and image in removed:
        return "annotation_of_removed_image"
    if not is_integer(image) or image not in images:
        return "annotation_without_image"
    if not is_integer(category) or category not in categories:
        return "annotation_without_class"
    if box is None and row.get("segmentation"):
        return ""
    sound = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    if not sound or not np.isfinite(as_floats([box])).all():  # type: ignore[list-item]
        return "annotation_without_box"
    return None


def _size(image: Json) -> tuple[float, float]:
    sides = image.get("width"), image.get("height")
    return (float(sides[0]), float(sides[1])) if all(is_integer(side) for side in sides) else (math.inf, math.inf)  # type: ignore[arg-type]


def _corners(box: Any) -> Any:
    return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])


def _clipped(row: Json, corners: list[float]) -> Json:
    """Return the row with a clipped box, and with its area if that was the area of the box."""
    x, y, right, bottom = corners
    box = [x, y, right - x, bottom - y]
    after = {**row, "bbox": box}
    area = row.get("area")
    if type(area) in (int, float) and math.isclose(area, row["bbox"][2] * row["bbox"][3], rel_tol=1e-3):  # type: ignore[arg-type]
        after["area"] = box[2] * box[3]
    return after


def _once(rows: list[Json], change: Any) -> list[Json]:
    """Return the rows without those that repeat an earlier one: image, class, box, mask, iscrowd and annotator."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        fields = ("image_id", "category_id", "bbox", "segmentation")
        key = repr([*(row.get(name) for name in fields), bool(row.get("iscrowd")), annotator_of(row)])
        if key in seen:
            change(row, "annotation_repeated")
        else:
            seen.add(key)
            kept.append(row)
    return kept
