"""Labels that contradict each other, boxes that look wrong, classes with few images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.engine.doubtful import conflict_sentence, rare_classes, repeated_sentence, same_objects
from tlvision.types import Json, Sample, counted

LONG = 20.0
WHOLE = 0.98
OUTLIER = 6.0
"""Robust standard deviations of the logarithm of the area within a class."""
_FEW_TO_JUDGE = 20
UNEQUAL = 10.0
"""Times as many images, and objects, of one class as of another."""

Boxes = npt.NDArray[np.float64]


def label_conflicts(parts: Sequence[Part]) -> list[Finding]:
    """Return pairs of boxes that mark one object: with two classes, or twice with one."""
    conflicts: list[dict[str, Any]] = []
    repeated: list[dict[str, Any]] = []
    for part, sample, rows in _images(parts):
        pairs = same_objects(_corners(rows), [row["category_id"] for row in rows])
        for found, places in zip(pairs, (conflicts, repeated), strict=True):
            places += [part.place(sample, annotation=rows[one]["id"], other=rows[other]["id"]) for one, other in found]
    findings = []
    if conflicts:
        findings.append(Finding("warning", "label_conflicts", conflict_sentence(len(conflicts)), tuple(conflicts)))
    if repeated:
        findings.append(Finding("warning", "label_conflicts", repeated_sentence(len(repeated)), tuple(repeated)))
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
    findings = [Finding("warning", "class_balance", sentence) for sentence in rare_classes(train.data)]
    if not findings and (unequal := _unequal(train)):
        findings.append(Finding("note", "class_balance", unequal))
    return findings


def _unequal(train: Part) -> str:
    """Return a sentence on classes with very unequal numbers of objects, empty without any."""
    names = train.data.classes.names
    labels = [sample.target.labels[~sample.target.crowd] for sample in train.data.samples]
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(names))
    present = np.flatnonzero(counts)
    if len(present) < 2 or counts[present].max() < UNEQUAL * counts[present].min():
        return ""
    most, least = present[counts[present].argmax()], present[counts[present].argmin()]
    return (
        f"data.train: '{names[most]}' has {counts[most]} objects, '{names[least]}' {counts[least]}: the mean AP over "
        "classes depends on the rare ones as much"
    )


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


def _outliers(found: Sequence[tuple[float, dict[str, object]]]) -> list[dict[str, object]]:
    if len(found) < _FEW_TO_JUDGE:
        return []
    values = np.array([value for value, _ in found])
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    if spread == 0:
        return []
    return [place for value, place in found if abs(value - middle) > OUTLIER * spread]
