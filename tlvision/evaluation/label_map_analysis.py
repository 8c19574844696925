"""What mean class IoU does not say about label maps: confusion, where the errors lie, and how images differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.evaluation.boundary_iou import DISTANCE
from tlvision.evaluation.confusion import Counts, LabelMap
from tlvision.evaluation.curves import Number
from tlvision.types import IGNORE_INDEX

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
WORST = 10
"""Number of images that are named as the worst."""


@dataclass(slots=True)
class LabelMapAnalysis:
    """Sums over the images of an evaluation.

    names: of the classes. near, inside: wrong pixels and all pixels close to a border between classes, and elsewhere.
    images: name -> mean IoU over the classes that its ground truth has, None without a known pixel.
    matrices: confusion of each image.
    """

    names: Sequence[str]
    near: Counts = field(default_factory=lambda: np.zeros(2, np.int64))
    inside: Counts = field(default_factory=lambda: np.zeros(2, np.int64))
    images: dict[str, Number] = field(default_factory=dict)
    matrices: list[Counts] = field(default_factory=list)

    def add(self, name: str, matrix: Counts, pixels: tuple[Counts, Counts]) -> None:
        """Add an image: its confusion matrix (true class by predicted class) and `border_errors` of it."""
        self.near += pixels[0]
        self.inside += pixels[1]
        self.images[name] = image_iou(matrix)
        self.matrices.append(matrix)

    def as_json(self, matrix: Counts) -> dict[str, Any]:
        """Return it for a JSON file. matrix: confusion over all images.

        Keys:
            confusion: cells truth, predicted, count in pixels, largest first, without empty ones
            per_class: {name: {precision, recall}}, None where there is nothing to measure
            border:    distance (part of the image diagonal), and for pixels at most so far from another class (near)
                       and for the others (inside): pixels, error (share of wrong ones)
            images:    mean IoU of each image over the classes that its ground truth has: mean, quantiles, worst (name
                       and value of the ten lowest)
        """
        hits, truths, found = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        cells = [
            {"truth": self.names[row], "predicted": self.names[column], "count": int(matrix[row, column])}
            for row, column in np.argwhere(matrix).tolist()
        ]
        return {
            "confusion": sorted(cells, key=lambda cell: -int(cell["count"])),
            "per_class": {
                name: {
                    "precision": int(hits[k]) / int(found[k]) if found[k] and truths[k] else None,
                    "recall": int(hits[k]) / int(truths[k]) if truths[k] else None,
                }
                for k, name in enumerate(self.names)
            },
            "border": {"distance": DISTANCE, "near": _share(self.near), "inside": _share(self.inside)},
            "images": distribution(self.images),
        }


def _share(counts: Counts) -> dict[str, Number]:
    wrong, pixels = int(counts[0]), int(counts[1])
    return {"pixels": pixels, "error": wrong / pixels if pixels else None}


def image_iou(matrix: Counts) -> float | None:
    """Return the mean IoU over the classes that the ground truth of an image has, None without a known pixel.

    >>> image_iou(np.array([[1, 1], [0, 2]]))
    0.5833333333333333
    """
    hits, truths, found = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    present = truths > 0
    if not present.any():
        return None
    return float(np.mean(hits[present] / (truths + found - hits)[present]))


def distribution(images: Mapping[str, Number]) -> dict[str, Any]:
    """Return mean, quantiles and the worst of a number for each image; images without one are left out."""
    values = {name: float(value) for name, value in images.items() if value is not None}
    numbers = np.array(list(values.values()))
    worst = sorted(values, key=values.__getitem__)[:WORST]
    return {
        "mean": float(numbers.mean()) if values else None,
        "quantiles": {f"{part:g}": float(np.quantile(numbers, part)) if values else None for part in QUANTILES},
        "worst": [{"image": name, "mean_class_iou": values[name]} for name in worst],
    }


def border_errors(truth: LabelMap, prediction: LabelMap) -> tuple[Counts, Counts]:
    """Return (2,) wrong pixels and all pixels close to another class in the ground truth, and the same elsewhere.

    truth, prediction: (H, W) class index, 255 in `truth` where nothing is known, which counts nowhere. Close is at most
    `DISTANCE` of the diagonal, along rows, columns and diagonals.

    >>> truth = np.repeat([[0] * 60 + [1] * 60], 10, axis=0)
    >>> found = truth.copy(); found[:, 0] = 1
    >>> [each.tolist() for each in border_errors(truth, found)]  # distance 2: two columns on either side
    [[0, 40], [10, 1160]]
    """
    known = truth != IGNORE_INDEX
    near = _near_border(truth.astype(np.uint8), max(1, round(DISTANCE * float(np.hypot(*truth.shape))))) & known
    wrong = (truth != prediction) & known
    return (
        np.array([(wrong & near).sum(), near.sum()], np.int64),
        np.array([(wrong & ~near).sum(), (known & ~near).sum()], np.int64),
    )


def _near_border(labels: npt.NDArray[np.uint8], distance: int) -> npt.NDArray[np.bool_]:
    """Return the pixels with pixels of two classes around them; unknown pixels and the image's edge are no class."""
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    lowest = cv2.erode(labels, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORE_INDEX)
    without = np.where(labels == IGNORE_INDEX, 0, labels).astype(np.uint8)
    highest = cv2.dilate(without, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(lowest < highest)
