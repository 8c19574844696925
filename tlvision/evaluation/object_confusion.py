"""Count detections by true and predicted class, with background on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.matching import Matches
from tlvision.types import ClassThresholds


def object_confusion(matches: Matches, thresholds: ClassThresholds) -> npt.NDArray[np.int64]:
    """Return (C + 1, C + 1) counts: rows are the true class, columns the predicted one, the last of each background.

    thresholds: only detections from the threshold of their class on count.

    Detections and objects are paired one to one at the first IoU threshold, whatever their classes: pairs of one class
    first, then by IoU. What stays alone is background's: a detection in the last row, an object in the last column.
    Detections in a crowd region of their class do not count, nor do crowd regions.
    """
    classes = len(matches.names)
    kept = (matches.score >= thresholds.of(matches.names)[matches.label]) & (matches.outcome[:, 0] >= 0)
    pairs = np.flatnonzero(
        (matches.pair_iou >= matches.thresholds[0])
        & kept[matches.pair_detection]
        & ~matches.object_crowd[matches.pair_object]
    )
    detection, number = matches.pair_detection[pairs], matches.pair_object[pairs]
    other = matches.label[detection] != matches.object_label[number]
    order = np.lexsort((-matches.pair_iou[pairs], other))
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    used, found = np.zeros(len(matches.label), bool), matches.object_crowd.copy()
    for one, another in zip(detection[order].tolist(), number[order].tolist(), strict=True):
        if not used[one] and not found[another]:
            used[one] = found[another] = True
            counts[matches.object_label[another], matches.label[one]] += 1
    counts[classes, :classes] = np.bincount(matches.label[kept & ~used], minlength=classes)
    counts[:classes, classes] = np.bincount(matches.object_label[~found], minlength=classes)
    return counts


def confusion_cells(matches: Matches, thresholds: ClassThresholds) -> list[dict[str, Any]]:
    """Return the cells of `object_confusion` that are not 0, largest first, for a JSON file.

    A cell has truth and predicted (names; None for background) and count.
    """
    counts = object_confusion(matches, thresholds)
    names: list[str | None] = [*matches.names, None]
    cells = [
        {"truth": names[row], "predicted": names[column], "count": int(counts[row, column])}
        for row, column in np.argwhere(counts).tolist()
    ]
    return sorted(cells, key=lambda cell: -int(cell["count"]))
