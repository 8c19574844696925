"""Measure label maps as pseudo-labels: precision, recall and number of pixels for each class, over confidence.

Source: what Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training",
ECCV 2018, choose thresholds by. The rows are those of `pseudo_label_quality`, with pixels in the place of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.pseudo_labels import THRESHOLDS, check_thresholds
from tlvision.types import IGNORE_INDEX, InputError

Counts = npt.NDArray[np.int64]


class PixelQuality:
    """Counts pixels image by image, and measures them as pseudo-labels.

    names:      of the classes, in the order of their indices.
    thresholds: ascending, 0..1; a pixel is a pseudo-label from that confidence on.

    >>> import numpy as np
    >>> quality = PixelQuality(["road", "car"], thresholds=[0.0, 0.5])
    >>> quality.add(np.array([[0, 1]]), np.array([[0, 0]]), np.array([[0.9, 0.4]], np.float32))
    >>> [(row["pseudo_labels"], row["precision"]) for row in quality.result()["all"]]
    [(2, 0.5), (1, 1.0)]
    """

    def __init__(self, names: Sequence[str], *, thresholds: Sequence[float] = THRESHOLDS) -> None:
        check_thresholds(thresholds)
        self.names, self.thresholds = tuple(names), tuple(float(value) for value in thresholds)
        self.images = 0
        # [how many thresholds the confidence reaches, true class, predicted class]
        self._counts: Counts = np.zeros((len(self.thresholds) + 1, len(names), len(names)), np.int64)

    def add(
        self, truth: npt.NDArray[np.integer], labels: npt.NDArray[np.integer], confidence: npt.NDArray[np.floating]
    ) -> None:
        """Count one image.

        truth:      (H, W) class indices; 255 is not counted. labels: (H, W) predicted class indices.
        confidence: (H, W), 0..1.

        Raises InputError if the shapes differ or a label is no class.
        """
        if not truth.shape == labels.shape == confidence.shape:
            raise InputError(
                f"PixelQuality: expected maps of one size, got truth {truth.shape}, labels {labels.shape} and "
                f"confidence {confidence.shape}"
            )
        known = truth != IGNORE_INDEX
        true, found, count = truth[known].astype(np.int64), labels[known].astype(np.int64), len(self.names)
        for name, values in (("truth", true), ("labels", found)):
            if values.size and not 0 <= values.min() <= values.max() < count:
                raise InputError(f"PixelQuality: {name} has values in {values.min()}..{values.max()}; classes: {count}")
        # In the precision of the confidence itself, so that 0.9 reaches 0.9.
        limits = np.asarray(self.thresholds, confidence.dtype)
        reached = np.searchsorted(limits, confidence[known], side="right")
        cells = np.bincount((reached * count + true) * count + found, minlength=self._counts.size)
        self._counts += cells.reshape(self._counts.shape)
        self.images += 1

    def result(self) -> dict[str, Any]:
        """Return what `pseudo_label_quality` does, counted in pixels.

        `unit` is "pixels" and `iou` None; `mean_iou` of a class is its IoU with what has no pseudo-label counted as
        missed, and in `all` the mean of that over the classes that occur.
        """
        at_least = self._counts[::-1].cumsum(axis=0)[::-1][1:]  # (thresholds, true, predicted)
        truths: Counts = self._counts.sum(axis=(0, 2))
        per_class: dict[str, Any] = {
            name: {
                "ground_truths": int(truths[index]),
                "thresholds": [
                    _row(threshold, int(cells[:, index].sum()), int(cells[index, index]), int(truths[index]))
                    for threshold, cells in zip(self.thresholds, at_least, strict=True)
                ],
            }
            for index, name in enumerate(self.names)
        }
        together = []
        for number, (threshold, cells) in enumerate(zip(self.thresholds, at_least, strict=True)):
            row = _row(threshold, int(cells.sum()), int(np.trace(cells)), int(truths.sum()))
            ious = [each["thresholds"][number]["mean_iou"] for each in per_class.values() if each["ground_truths"]]
            together.append(row | {"mean_iou": float(np.mean(ious)) if ious else None})
        return {
            "unit": "pixels",
            "iou": None,
            "thresholds": list(self.thresholds),
            "counts": {
                "images": self.images,
                "ground_truths": int(truths.sum()),
                "predictions": int(self._counts.sum()),
            },
            "per_class": per_class,
            "all": together,
        }


def _row(threshold: float, found: int, right: int, truths: int) -> dict[str, Any]:
    either = found + truths - right
    return {
        "threshold": threshold,
        "pseudo_labels": found,
        "right": right,
        "precision": right / found if found and truths else None,
        "recall": right / truths if truths else None,
        "mean_iou": right / either if truths else None,
    }
