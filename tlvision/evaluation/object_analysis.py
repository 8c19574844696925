"""What average precision does not say about boxes or masks: thresholds, sizes, confusion, calibration, error kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlvision.evaluation.calibration import calibration
from tlvision.evaluation.curves import curves
from tlvision.evaluation.error_kinds import error_kinds
from tlvision.evaluation.matching import Floats, Matches
from tlvision.evaluation.object_confusion import confusion_cells
from tlvision.evaluation.operating_point import OperatingPoint, Rule, choose_thresholds
from tlvision.types import ClassThresholds

SIZE_GROUPS = 4
"""Number of size groups of a dataset with equally many objects each."""


def analyse_objects(
    matches: Matches, rule: Rule | None = None, thresholds: ClassThresholds | None = None
) -> dict[str, Any]:
    """Return the analysis of one kind of IoU, for `analysis` in metrics.json.

    rule:       how a threshold for each class is chosen on these images; None for the best F1.
    thresholds: use these, of a run, instead of choosing.

    Keys, all at IoU 0.5 except where they say otherwise:
        operating_point: rule, default, all, per_class: precision, recall and counts of the detections from a threshold
                         on, and why a threshold is not what the rule asks for; see `OperatingPoint.as_json`
        curves:          precision, recall, F1 and false positives per image over 101 thresholds; see `curves`
        confusion:       cells truth, predicted, count at the thresholds of operating_point; None is background
        calibration:     error of the scores and reliability diagram; see `calibration`
        error_kinds:     number and cost in AP50 of each kind of error; see `error_kinds`
    """
    if thresholds is None:
        point = choose_thresholds(matches, rule)
    else:
        point = OperatingPoint("thresholds of the run", thresholds, {})
    return {
        "operating_point": point.as_json(matches),
        "curves": curves(matches),
        "confusion": confusion_cells(matches, point.thresholds),
        "calibration": calibration(matches),
        "error_kinds": error_kinds(matches),
    }


def size_ranges(areas: Floats, groups: int = SIZE_GROUPS) -> list[tuple[float, float]]:
    """Return the limits of the area, both included, of groups with equally many objects, as far as ties allow.

    >>> size_ranges(np.array([1.0, 4.0, 9.0, 16.0]), 2)
    [(0.0, 6.5), (6.500000000000001, 10000000000.0)]
    """
    inner = np.quantile(areas, np.linspace(0, 1, groups + 1)[1:-1]).tolist() if len(areas) else []
    limits = [0.0, *inner, 1e10]
    lows = [0.0, *(float(np.nextafter(value, np.inf)) for value in limits[1:-1])]
    return list(zip(lows, limits[1:], strict=True))
