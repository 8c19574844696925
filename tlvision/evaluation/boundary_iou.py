"""Boundary IoU: how well the edges of a class are found, however large its areas are.

Source: Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, 2021, equation 2: the IoU
of those pixels of truth and prediction that lie within d of their own contours. d is 2 % of the image's diagonal, as
there. The paper scores objects; here, as for IoU, a class is one mask an image, and its pixels are summed over all
images. The border of the image is a contour. Pixels whose truth is IGNORE_INDEX count nowhere; they are of no class on
either side, so that the same contour runs around them in both.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.types import IGNORE_INDEX

DISTANCE = 0.02
"""d as a fraction of the image's diagonal."""


def boundary_counts(
    truth: npt.NDArray[np.integer[Any]], prediction: npt.NDArray[np.integer[Any]], classes: int
) -> npt.NDArray[np.int64]:
    """Return (classes, 2) int64: for each class the pixels in intersection and union of its boundary regions.

    truth, prediction: (H, W) integers, class index per pixel, 255 in `truth` where nothing is known.

    >>> square = np.zeros((100, 100), int); square[40:60, 40:60] = 1
    >>> intersection, union = boundary_counts(square, square, 2)[1].tolist()
    >>> (intersection, union)  # d is 3: a ring of 20 * 20 - 14 * 14
    (204, 204)
    """
    distance = max(1, round(DISTANCE * float(np.hypot(*truth.shape))))
    known = truth.astype(np.uint8)
    found = np.where(known == IGNORE_INDEX, IGNORE_INDEX, prediction).astype(np.uint8)
    sides = [np.where(_edge(labels, distance), labels, IGNORE_INDEX) for labels in (known, found)]
    one, other = (np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1)[:classes] for labels in sides)
    both = np.bincount(sides[0][sides[0] == sides[1]], minlength=IGNORE_INDEX + 1)[:classes]
    counts: npt.NDArray[np.int64] = np.stack([both, one + other - both], axis=1).astype(np.int64)
    return counts


def _edge(labels: npt.NDArray[np.uint8], distance: int) -> npt.NDArray[np.bool_]:
    """Return the pixels from which one of another label, or none, is at most `distance` steps to a neighbour away.

    All classes at once: a pixel is inside its class where the lowest and the highest label around it are its own.
    Beyond the image is the lowest for the one and the highest for the other, so that its border is an edge.
    """
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    lowest = cv2.erode(labels, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    highest = cv2.dilate(labels, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORE_INDEX)
    edge: npt.NDArray[np.bool_] = lowest != highest
    return edge
