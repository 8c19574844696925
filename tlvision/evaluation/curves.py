"""Precision, recall and F1 over score thresholds, and at a threshold for each class, from matches at IoU 0.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.matching import Floats, Matches
from tlvision.types import ClassThresholds

SCORES = tuple(np.linspace(0, 1, 101).round(2).tolist())
"""Score thresholds of the curves."""

Number = float | int | None


def curves(matches: Matches, scores: Sequence[float] = SCORES) -> dict[str, Any]:
    """Return precision, recall, F1 and false positives over score thresholds, at the first IoU threshold.

    scores: thresholds, 0..1; a detection counts from that score on.

    Returns {"thresholds": [...], "all": curve, "per_class": {name: curve}} for a JSON file. A curve has a list for each
    of precision, recall, f1 (0..1) and false_positives_per_image; None where there is nothing to measure: precision
    without detections, and all three without objects. "all" counts the detections of all classes together.
    """
    rows = [
        _curve(matches, np.flatnonzero(matches.label == label), objects, scores) for label, objects in _each(matches)
    ]
    return {
        "thresholds": [float(score) for score in scores],
        "all": _curve(matches, np.arange(len(matches.label)), int(matches.objects.sum()), scores),
        "per_class": dict(zip(matches.names, rows, strict=True)),
    }


def at_thresholds(matches: Matches, thresholds: ClassThresholds) -> dict[str, Any]:
    """Return precision, recall, F1 and counts of the detections from a threshold for each class on, at the first IoU.

    Returns {"all": row, "per_class": {name: row}}; a row has threshold (not in "all"), objects, detections, right,
    false_positives, missed, and as `curves` precision, recall, f1, false_positives_per_image.
    """
    limit = thresholds.of(matches.names)
    kept = matches.score >= limit[matches.label]
    rows = {}
    for label, objects in _each(matches):
        row = _row(matches, np.flatnonzero(kept & (matches.label == label)), objects)
        rows[matches.names[label]] = {"threshold": float(limit[label]), **row}
    return {"all": _row(matches, np.flatnonzero(kept), int(matches.objects.sum())), "per_class": rows}


def _each(matches: Matches) -> list[tuple[int, int]]:
    return list(enumerate(matches.objects.tolist()))


def _row(matches: Matches, chosen: npt.NDArray[np.int64], objects: int) -> dict[str, Number]:
    outcome = matches.outcome[chosen, 0]
    right, wrong = int((outcome == 1).sum()), int((outcome == 0).sum())
    precision, recall, f1 = ratios(np.array([right]), np.array([wrong]), objects)
    return {
        "objects": objects,
        "detections": right + wrong,
        "right": right,
        "false_positives": wrong,
        "missed": objects - right,
        "precision": or_none(precision)[0],
        "recall": or_none(recall)[0],
        "f1": or_none(f1)[0],
        "false_positives_per_image": wrong / len(matches.image_ids) if len(matches.image_ids) else None,
    }


def _curve(
    matches: Matches, chosen: npt.NDArray[np.int64], objects: int, scores: Sequence[float]
) -> dict[str, list[Number]]:
    score, right, wrong = ranked_counts(matches, chosen)
    # How many detections have at least each score: `score` descends.
    count = np.searchsorted(-score, -np.asarray(scores, np.float64), side="right")
    right, wrong = (np.concatenate([[0], each])[count] for each in (right, wrong))
    precision, recall, f1 = ratios(right, wrong, objects)
    images = len(matches.image_ids)
    per_image = wrong / images if images else np.full(len(count), np.nan)
    return {
        "precision": or_none(precision),
        "recall": or_none(recall),
        "f1": or_none(f1),
        "false_positives_per_image": or_none(per_image),
    }


def ranked_counts(
    matches: Matches, chosen: npt.NDArray[np.int64]
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return scores in descending order, and the number of right and of wrong detections up to each.

    chosen: indices of detections; those in crowd regions are not counted.
    """
    counted = chosen[matches.outcome[chosen, 0] >= 0]
    counted = counted[np.argsort(-matches.score[counted], kind="stable")]
    right = matches.outcome[counted, 0].astype(np.int64)
    return matches.score[counted], np.cumsum(right), np.cumsum(1 - right)


def ratios(right: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64], objects: int) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1, nan where there is nothing to measure: without objects, all of them.

    >>> [each.tolist() for each in ratios(np.array([3]), np.array([1]), 6)]
    [[0.75], [0.5], [0.6]]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if not objects:  # there is nothing to find, so nothing is measured
            return tuple(np.full(len(right), np.nan) for _ in range(3))  # type: ignore[return-value]
        precision = np.where(right + wrong > 0, right / (right + wrong), np.nan)
        return precision, right / objects, 2 * right / (right + wrong + objects)


def or_none(values: Floats) -> list[Number]:
    """Return a list for a JSON file, with None for nan and five digits."""
    return [None if np.isnan(value) else round(float(value), 5) for value in values]
