"""Images without an object, small objects, and sets that look like a part of COCO."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.types import counted

SMALL = 32.0**2
"""Square pixels; COCO's limit of small objects."""
TINY = 8.0
"""Pixels of the shorter side."""
MANY_SMALL, MANY_TINY = 0.4, 0.05
_COCO_FILE = re.compile(r"^\d{12}$")
_COCO_CLASSES = ("person", "bicycle", "car", "motorcycle", "airplane", "toothbrush", "hair drier", "teddy bear")
"""Some of the 80 names; a set with most of COCO's ids and names has them all."""


def object_counts(parts: Sequence[Part], image_size: int) -> list[Finding]:
    """Return counts of objects that explain weak or misleading results.

    image_size: long side of the network input in pixels, at which sizes of objects are judged.
    """
    findings = []
    for part in parts:
        if not part.rows:
            continue
        findings += [*_without(part), *_small(part, image_size), *_looks_like_coco(part)]
    return findings


def _without(part: Part) -> list[Finding]:
    empty = [sample for sample in part.data.samples if not len(sample.target)]
    if not empty:
        return []
    sentence = (
        f"data.{part.name}: {len(empty)} of {counted(len(part.data.samples), 'image')} without an object. They teach "
        "what is background; if they are not labelled yet, remove them"
    )
    return [Finding("note", "unlabelled_images", sentence, tuple(part.place(sample) for sample in empty))]


def _small(part: Part, image_size: int) -> list[Finding]:
    found = [np.zeros((0, 2))]
    for sample in part.data.samples:
        boxes = sample.target.boxes[~sample.target.crowd]
        found.append((boxes[:, 2:] - boxes[:, :2]) * (image_size / max(sample.width, sample.height)))
    sides = np.concatenate(found)
    if not len(sides):
        return []
    small = float((sides.prod(1) < SMALL).mean())
    tiny = float((sides.min(1) < TINY).mean())
    findings = []
    if small >= MANY_SMALL:
        sentence = (
            f"data.{part.name}: {small:.0%} of the objects are small at data.image_size {image_size} (less than 32 x "
            "32 px). A larger one, or tiles of large images (data.tiles), helps them"
        )
        findings.append(Finding("note", "small_objects", sentence))
    if tiny >= MANY_TINY:
        sentence = (
            f"data.{part.name}: {tiny:.0%} of the objects are less than {TINY:g} px high or wide at data.image_size "
            f"{image_size}"
        )
        findings.append(Finding("note", "small_objects", sentence))
    return findings


def _looks_like_coco(part: Part) -> list[Finding]:
    names = part.data.classes.names
    numbered = sum(bool(_COCO_FILE.match(sample.path.stem)) for sample in part.data.samples)
    if numbered < len(part.data.samples) or not set(_COCO_CLASSES) <= set(names):
        return []
    crowd = any(bool(sample.target.crowd.any()) for sample in part.data.samples)
    absent = "" if crowd else ". It has no crowd regions, so metrics differ a little from the official ones"
    sentence = (
        f"data.{part.name}: file names and classes are those of COCO, whose images of train2017 pretrained weights "
        f"have seen: judge transfer on other images{absent}"
    )
    return [Finding("note", "seen_by_weights", sentence)]
