"""Regions that show the same in many images of one class and not in others: a logo, a date, a corner of a sensor."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.artifacts import MIN_IMAGES
from tlvision.analysis.doctor.findings import Finding
from tlvision.analysis.doctor.image_measures import SIDE, Measured
from tlvision.types import Pixels, counted

CLOSE = 8
"""Grey values of one pixel that count as equal."""
IN_CLASS, IN_OTHERS = 0.6, 0.1
"""Least share of the images of the class that show the region, and highest share of the others."""
SMALLEST, LARGEST = 6, SIDE * SIDE // 8
"""Pixels of the region in the small picture."""


def stamps(images: Sequence[Measured], present: npt.NDArray[np.bool_]) -> list[Finding]:
    """Return regions of data.train that are nearly constant over the images of one class, and not in the others.

    images: of data.train that can be decoded. present: (N, C) whether each has a class.
    """
    findings = []
    pictures = np.array([image.small for image in images], np.uint8).reshape(-1, SIDE, SIDE)
    for label, name in enumerate(images[0].part.data.classes.names if images else ()):
        having = present[:, label]
        if min(having.sum(), (~having).sum()) < MIN_IMAGES:
            continue
        region = stamp_region(pictures[having], pictures[~having])
        if region is None:
            continue
        showing = _showing(pictures, pictures[having], region)
        x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
        sentence = (
            f"data.train: {int(showing[having].sum())} of {counted(int(having.sum()), 'image')} with '{name}' and "
            f"{int(showing[~having].sum())} of {int((~having).sum())} without show the same in one place, so a model "
            "may learn that instead of the object"
        )
        places = []
        for index in np.flatnonzero(having & showing).tolist():
            sample = images[index].sample
            across, down = sample.width / SIDE, sample.height / SIDE
            box = [x * across, y * down, width * across, height * down]
            places.append(images[index].part.place(sample, box=[round(value, 1) for value in box]))
        findings.append(Finding("warning", "artifacts", sentence, tuple(places)))
    return findings


def stamp_region(ones: Pixels, others: Pixels) -> npt.NDArray[np.bool_] | None:
    """Return the pixels of the largest region that is equal in most of `ones` and in few of `others`, None without one.

    ones, others: (N, SIDE, SIDE) uint8.
    """
    middle = _middle(ones)
    mine = (np.abs(ones.astype(np.int16) - middle) <= CLOSE).mean(0)
    theirs = (np.abs(others.astype(np.int16) - middle) <= CLOSE).mean(0)
    fixed = ((mine >= IN_CLASS) & (theirs <= 0.5 * mine)).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(fixed, connectivity=4)
    sizes = statistics[:, cv2.CC_STAT_AREA]
    for index in sorted(range(1, count), key=lambda index: -int(sizes[index])):
        if not SMALLEST <= sizes[index] <= LARGEST:
            continue
        region = labels == index
        if _equal(ones, middle, region).mean() >= IN_CLASS and _equal(others, middle, region).mean() <= IN_OTHERS:
            return np.asarray(region, bool)
    return None


def _middle(pictures: Pixels) -> npt.NDArray[np.int16]:
    return np.asarray(np.median(pictures, 0).astype(np.int16), np.int16)


def _equal(pictures: Pixels, middle: npt.NDArray[np.int16], region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return (N,) whether nine tenths of the region are equal to `middle` in each picture."""
    close = np.abs(pictures.astype(np.int16)[:, region] - middle[region]) <= 2 * CLOSE
    return np.asarray(close.mean(1) >= 0.9, bool)


def _showing(pictures: Pixels, having: Pixels, region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return _equal(pictures, _middle(having), region)
