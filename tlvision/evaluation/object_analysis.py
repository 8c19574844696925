"""What average precision does not say about boxes or masks: thresholds, sizes, confusion, calibration, error kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlvision.evaluation.analysis import Analysis
from tlvision.evaluation.calibration import calibration
from tlvision.evaluation.curves import curves
from tlvision.evaluation.error_kinds import error_kinds
from tlvision.evaluation.matching import Floats, Matches
from tlvision.evaluation.object_confusion import confusion_cells
from tlvision.evaluation.operating_point import OperatingPoint, choose_thresholds
from tlvision.evaluation.score_map import fit_scores

SIZE_GROUPS = 4
"""Number of size groups of a dataset with equally many objects each."""
_DEFAULT = Analysis()


def analyse_objects(matches: Matches, asked: Analysis = _DEFAULT) -> dict[str, Any]:
    """Return the analysis of one kind of IoU, for `analysis` in metrics.json.

    Keys, all at IoU 0.5 except where they say otherwise:
        operating_point: rule, default, all, per_class: precision, recall and counts of the detections from a threshold
                         on, and why a threshold is not what the rule asks for; see `OperatingPoint.as_json`
        curves:          precision, recall, F1 and false positives per image over 101 thresholds; see `curves`
        confusion:       cells truth, predicted, count at the thresholds of operating_point; None is background
        calibration:     error of the scores and reliability diagram, see `calibration`; `fitted`, if asked for, see
                         `fit_scores`
        error_kinds:     number and cost in AP50 of each kind of error; see `error_kinds`
    """
    if asked.thresholds is None:
        point = choose_thresholds(matches, asked.rule)
    else:
        point = OperatingPoint("thresholds of the run", asked.thresholds, {})
    fitted = {} if asked.calibrate is None else {"fitted": fit_scores(matches, asked.calibrate)}
    return {
        "operating_point": point.as_json(matches),
        "curves": curves(matches),
        "confusion": confusion_cells(matches, point.thresholds),
        "calibration": {**calibration(matches), **fitted},
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
