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
    known = truth != IGNORE_INDEX
    found = np.where(known, prediction, IGNORE_INDEX)
    counts = np.zeros((classes, 2), np.int64)
    present = set(np.unique(truth).tolist()) | set(np.unique(found).tolist())
    for index in sorted(present & set(range(classes))):
        one, other = (_boundary(labels == index, distance) for labels in (truth, found))
        counts[index] = (one & other).sum(), (one | other).sum()
    return counts


def _boundary(mask: npt.NDArray[np.bool_], distance: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask within `distance` of its contour, in steps to any of the eight neighbours."""
    # A square kernel is `distance` steps of a 3 x 3 one, and OpenCV does it in one go.
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    edge: npt.NDArray[np.bool_] = mask & (inner == 0)
    return edge
