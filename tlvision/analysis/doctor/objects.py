"""Labels that contradict each other, boxes that look wrong, classes with few images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.types import Json, Sample, counted, listing

CONFLICT, SAME = 0.9, 0.95
"""IoU from which two boxes of different classes, or of one class, are taken for one object."""
LONG = 20.0
WHOLE = 0.98
OUTLIER = 6.0
"""Robust standard deviations of the logarithm of the area within a class."""
_FEW_TO_JUDGE = 20
FEW_IMAGES = 10
IMBALANCE = 50.0

Boxes = npt.NDArray[np.float64]


def label_conflicts(parts: Sequence[Part]) -> list[Finding]:
    """Return pairs of boxes that mark one object: with two classes, or twice with one."""
    conflicts, repeated = [], []
    for part, sample, rows in _images(parts):
        overlap = _iou(_corners(rows))
        for one, other in zip(*np.nonzero(np.triu(overlap >= CONFLICT, 1)), strict=True):
            place = part.place(sample, annotation=rows[one]["id"], other=rows[other]["id"])
            if rows[one]["category_id"] != rows[other]["category_id"]:
                conflicts.append(place)
            elif overlap[one, other] >= SAME and rows[one]["bbox"] != rows[other]["bbox"]:
                repeated.append(place)  # equal ones are reported by the reader
    findings = []
    if conflicts:
        pairs = counted(len(conflicts), "pair")
        sentence = f"{pairs} of boxes of different classes on one object (IoU of {CONFLICT} or more)"
        findings.append(Finding("warning", "label_conflicts", sentence, tuple(conflicts)))
    if repeated:
        sentence = f"{counted(len(repeated), 'object')} marked twice (IoU of {SAME} or more)"
        findings.append(Finding("warning", "label_conflicts", sentence, tuple(repeated)))
    return findings


def suspicious_boxes(parts: Sequence[Part]) -> list[Finding]:
    """Return boxes that are very long, as large as their image, or far from the usual size of their class."""
    long, whole = [], []
    sizes: dict[int, list[tuple[float, dict[str, object]]]] = {}
    for part, sample, rows in _images(parts):
        for row in rows:
            _, _, width, height = row["bbox"]
            if not (width > 0 and height > 0):
                continue  # reported by the reader
            place = part.place(sample, annotation=row["id"])
            if max(width / height, height / width) > LONG:
                long.append(place)
            if width * height > WHOLE * sample.width * sample.height:
                whole.append(place)
            sizes.setdefault(row["category_id"], []).append((float(np.log(width * height)), place))
    findings = []
    if long:
        sentence = f"{counted(len(long), 'box', 'boxes')} more than {LONG:g} times as long as wide"
        findings.append(Finding("note", "suspicious_boxes", sentence, tuple(long)))
    if whole:
        sentence = f"{counted(len(whole), 'box', 'boxes')} as large as the image"
        findings.append(Finding("note", "suspicious_boxes", sentence, tuple(whole)))
    odd = [place for found in sizes.values() for place in _outliers(found)]
    if odd:
        sentence = f"{counted(len(odd), 'box', 'boxes')} of a size far from all others of the class"
        findings.append(Finding("note", "suspicious_boxes", sentence, tuple(odd)))
    return findings


def class_balance(parts: Sequence[Part]) -> list[Finding]:
    """Return classes with few training images, and how far the most frequent one is from the rarest."""
    train = next((part for part in parts if part.name == "train"), None)
    if train is None or not train.rows:
        return []
    images = dict.fromkeys(train.data.classes.names, 0)
    for sample in train.data.samples:
        for label in set(sample.target.labels[~sample.target.crowd].tolist()):
            images[train.data.classes.names[label]] += 1
    findings = []
    few = {name: count for name, count in images.items() if 0 < count < FEW_IMAGES}
    if few:
        shown = [f"{name} {count}" for name, count in sorted(few.items(), key=lambda item: item[1])]
        sentence = f"{counted(len(few), 'class')} with fewer than {FEW_IMAGES} training images: {listing(shown)}"
        findings.append(Finding("warning", "class_balance", sentence))
    present = {name: count for name, count in images.items() if count}
    if present and max(present.values()) > IMBALANCE * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        sentence = f"'{most}' is in {present[most]} training images, '{least}' in {present[least]}"
        findings.append(Finding("warning", "class_balance", sentence))
    return findings


def _images(parts: Sequence[Part]) -> Iterator[tuple[Part, Sample, list[Json]]]:
    """Yield the annotations of each image that are no crowd regions."""
    for part in parts:
        for sample in part.data.samples:
            rows = [row for row in part.rows.get(sample.image_id, []) if not row.get("iscrowd")]
            if rows:
                yield part, sample, rows


def _corners(rows: Sequence[Json]) -> Boxes:
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _iou(boxes: Boxes) -> Boxes:
    """Return the IoU of each box with each other, (N, N); 0 where a box has no area."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)
    union = area[:, None] + area[None] - inner
    found: Boxes = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return found


def _outliers(found: Sequence[tuple[float, dict[str, object]]]) -> list[dict[str, object]]:
    if len(found) < _FEW_TO_JUDGE:
        return []
    values = np.array([value for value, _ in found])
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    if spread == 0:
        return []
    return [place for value, place in found if abs(value - middle) > OUTLIER * spread]
