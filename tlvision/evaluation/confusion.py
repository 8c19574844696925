"""Count pixels in a confusion matrix, from which all label-map metrics are computed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.types import IGNORE_INDEX, InputError, listing

LabelMap = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]

# OpenCV counts in float32, which is exact up to 2 ** 24 of one kind: images are counted in pieces below that.
_MOST_PIXELS = 2**24


def confusion(truth: LabelMap, prediction: LabelMap, classes: int, where: str = "label map") -> Counts:
    """Count the pixels of one image by true class (row) and predicted class (column).

    truth, prediction: (H, W) integers, 0..classes - 1; where truth is 255 the pixel is left out.

    Returns (classes, classes) int64. Raises InputError that begins with `where`: shapes differ, the dtype is no
    integer, a value is no class.

    >>> confusion(np.array([[0, 1, 255]]), np.array([[1, 1, 0]]), 2).tolist()
    [[0, 1], [0, 1]]
    """
    check_pair(truth, prediction, classes, where)
    counts = _count(truth.astype(np.uint8, copy=False), prediction.astype(np.uint8, copy=False))
    known = np.arange(256) != IGNORE_INDEX
    for side, seen in (("ground truth", counts.sum(axis=1) * known), ("prediction", counts[known].sum(axis=0))):
        outside = np.flatnonzero(seen[classes:]) + classes
        if outside.size:
            raise _outside(where, side, outside, classes)
    return counts[:classes, :classes].copy()


def check_pair(truth: LabelMap, prediction: LabelMap, classes: int, where: str) -> None:
    """Raise InputError if the two are not (H, W) integer maps of one shape with values of 0 to 255."""
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise InputError(
            f"{where}: expected two (H, W) label maps of one shape, got ground truth {truth.shape} and prediction "
            f"{prediction.shape}"
        )
    for side, labels in (("ground truth", truth), ("prediction", prediction)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise InputError(f"{where}: expected integer class indices in the {side}, got dtype {labels.dtype}")
        if labels.dtype != np.uint8 and labels.size and (labels.min() < 0 or labels.max() > IGNORE_INDEX):
            counted = labels[truth != IGNORE_INDEX]
            outside = np.unique(counted[(counted < 0) | (counted >= classes)])
            if outside.size:
                raise _outside(where, side, outside, classes)


def _outside(where: str, side: str, values: npt.NDArray[Any], classes: int) -> InputError:
    return InputError(
        f"{where}: the {side} has the value(s) {listing(values)}, but the classes are 0..{classes - 1} "
        f"(and {IGNORE_INDEX} for ignored ground truth); check the class list"
    )


def _count(truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8]) -> Counts:
    """Return (256, 256) int64, the pixels by both values."""
    total = np.zeros((256, 256), np.int64)
    rows = max(1, _MOST_PIXELS // max(1, truth.shape[1]))
    for first in range(0, len(truth), rows):
        pair = [np.ascontiguousarray(side[first : first + rows]) for side in (truth, prediction)]
        if pair[0].size:
            total += cv2.calcHist(pair, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return total
