"""Compare the scores of detections with how often they are right.

Source: the expected calibration error of Naeini et al., 2015, on detections as Küppers et al., 2020, have it: a score
is calibrated if that share of the detections is right. Difference: the position and size of boxes are not binned.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tlvision.evaluation.curves import Number
from tlvision.evaluation.matching import Flags, Floats, Matches

BINS = 10
MIN_SCORE = 0.1
"""Lowest score that counts: detectors leave many detections of scores near 0, which would drown all others."""


def calibration(matches: Matches, *, bins: int = BINS, min_score: float = MIN_SCORE) -> dict[str, Any]:
    """Return the calibration error of the scores at the first IoU threshold, and its reliability curve.

    bins: number of equal steps of the score from 0 to 1. min_score: detections below it do not count.

    Returns min_score; error: mean of |precision - mean score| over the bins, weighted by detections, None without
    detections or objects; bins: a list of {from, to, detections, mean_score, precision}, the last two None in an empty
    bin, precision also without objects; per_class: {name: {detections, error}}.
    """
    counted = (matches.outcome[:, 0] >= 0) & (matches.score >= min_score)
    score, right, label = matches.score[counted], matches.outcome[counted, 0], matches.label[counted]
    rows, objects = reliability(score, right, bins), matches.objects.tolist()
    if not sum(objects):
        rows = [{**row, "precision": None} for row in rows]
    return {
        "min_score": min_score,
        "error": _weighted(rows) if sum(objects) else None,
        "bins": rows,
        "per_class": {
            name: {
                "detections": int((label == index).sum()),
                "error": _weighted(reliability(score[label == index], right[label == index], bins))
                if objects[index]
                else None,
            }
            for index, name in enumerate(matches.names)
        },
    }


def reliability(score: Floats, right: Flags, bins: int) -> list[dict[str, Number]]:
    """Return the rows of a reliability diagram; see `calibration`. right: 1 or 0 for each score."""
    edges = np.arange(bins + 1) / bins  # not linspace, whose 0.3 is above 0.3
    place = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    scores, hits = (np.bincount(place, weights=each, minlength=bins) for each in (score, right.astype(np.float64)))
    return [
        {
            "from": float(edges[index]),
            "to": float(edges[index + 1]),
            "detections": int(count[index]),
            "mean_score": float(scores[index] / count[index]) if count[index] else None,
            "precision": float(hits[index] / count[index]) if count[index] else None,
        }
        for index in range(bins)
    ]


def calibration_error(score: Floats, right: Flags, bins: int = BINS) -> float | None:
    """Return the mean distance of score and share of right detections over the bins; see `calibration`."""
    return _weighted(reliability(score, right, bins))


def _weighted(rows: list[dict[str, Any]]) -> float | None:
    filled = [row for row in rows if row["detections"]]
    total = sum(row["detections"] for row in filled)
    if not total:
        return None
    return float(sum(row["detections"] * abs(row["precision"] - row["mean_score"]) for row in filled) / total)
