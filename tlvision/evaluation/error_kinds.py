"""Sort errors into kinds, and measure how much AP50 each kind costs.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, 2020: the kinds, their order, and
the repairs whose gain in AP50 is the cost of a kind (tests/golden compares with the published package).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.average_precision import average_precision
from tlvision.evaluation.matching import LEAST_OVERLAP, Floats, Ints, Matches

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""The six kinds; see `error_kinds`."""
_NONE = -1
_CLASS, _PLACE, _BOTH, _DUPLICATE, _BACKGROUND = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """What is wrong with each detection and object at the first IoU threshold.

    kind:   (D,) index into KINDS, -1 for a detection that is right or not counted.
    object: (D,) the object that a detection would find if it had the right class or place, -1 for other kinds.
    missed: (G,) whether no detection found the object, not even one with the wrong class or place.
    lost:   (G,) whether no detection found the object.
    """

    kind: npt.NDArray[np.int8]
    object: Ints
    missed: npt.NDArray[np.bool_]
    lost: npt.NDArray[np.bool_]


def error_kinds(matches: Matches) -> dict[str, Any]:
    """Return how often each kind of error occurs, and what it costs.

    A detection that is wrong at the first IoU threshold (0.5) is, in this order,
        localisation:   it overlaps an object of its class with an IoU from 0.1 to 0.5
        classification: it overlaps an object of another class with an IoU of 0.5 or more
        duplicate:      it overlaps an object of its class that a better detection found
        background:     it overlaps no object with an IoU of 0.1
        both:           what is left: wrong class and wrong place
    and an object that no detection found is *missed*, unless one of the first two kinds is about it.

    Returns {"AP50": value, kind: {"count", "AP50_lost"} for each kind, "false_positives": …, "false_negatives": …} for
    a JSON file. AP50_lost is what AP50 would gain if only these errors were repaired: a wrong class or place is put
    right, or taken out if the object has been found; other detections are taken out; missed objects are not counted.
    The last two entries take out all wrong detections, and all objects that were not found. None where AP50 is not
    measured.
    """
    errors = sort_errors(matches)
    at50 = replace(
        matches, thresholds=matches.thresholds[:1], found=matches.found[:, :1], outcome=matches.outcome[:, :1]
    )
    before = mean_ap(at50)
    wrong = matches.outcome[:, 0] == 0
    repairs: dict[str, tuple[int, Callable[[], Matches]]] = {
        name: (int((errors.kind == kind).sum()), lambda kind=kind: _repaired(at50, errors, kind))  # type: ignore[misc]
        for kind, name in enumerate(KINDS[:-1])
    }
    repairs["missed"] = int(errors.missed.sum()), lambda: _without_objects(at50, errors.missed)
    repairs["false_positives"] = int(wrong.sum()), lambda: _without_detections(at50, wrong)
    repairs["false_negatives"] = int(errors.lost.sum()), lambda: _without_objects(at50, errors.lost)
    result: dict[str, Any] = {"AP50": before}
    for name, (count, repaired) in repairs.items():
        after = mean_ap(repaired()) if count else before
        # A class all of whose objects are missed has no AP once they are not counted.
        gain = None if before is None else max(0.0, (before if after is None else after) - before)
        result[name] = {"count": count, "AP50_lost": gain}
    return result


def mean_ap(matches: Matches) -> float | None:
    """Return the mean of the AP over classes and thresholds, None without an object."""
    ap = average_precision(matches)
    return None if np.isnan(ap).all() else float(np.nanmean(ap))


def sort_errors(matches: Matches) -> Errors:
    """Return the kind of error of every detection, and the missed objects; see `error_kinds`."""
    real = ~matches.object_crowd[matches.pair_object]
    detection, number, iou = matches.pair_detection[real], matches.pair_object[real], matches.pair_iou[real]
    same = matches.label[detection] == matches.object_label[number]
    total, least = len(matches.label), float(matches.thresholds[0])
    own_iou, own = _best(detection[same], number[same], iou[same], total)
    other_iou, other = _best(detection[~same], number[~same], iou[~same], total)
    lost = ~matches.object_crowd.copy()
    lost[matches.found[matches.found[:, 0] >= 0, 0]] = False
    kind = np.select(
        [
            matches.outcome[:, 0] != 0,
            (own_iou >= LEAST_OVERLAP) & (own_iou < least),
            other_iou >= least,
            own_iou >= least,
            np.maximum(own_iou, other_iou) < LEAST_OVERLAP,
        ],
        [_NONE, _PLACE, _CLASS, _DUPLICATE, _BACKGROUND],
        default=_BOTH,
    ).astype(np.int8)
    about = np.select([kind == _PLACE, kind == _CLASS], [own, other], default=_NONE)
    missed = lost.copy()
    missed[about[about >= 0]] = False
    return Errors(kind, about, missed, lost)


def _best(detection: Ints, number: Ints, iou: Floats, total: int) -> tuple[Floats, Ints]:
    """Return (D,) the highest IoU of each detection and its object; 0 and -1 without a pair."""
    best, which = np.zeros(total), np.full(total, _NONE)
    order = np.lexsort((-number, iou))  # the last write of a detection counts: highest IoU, then the first object
    best[detection[order]], which[detection[order]] = iou[order], number[order]
    return best, which


def _repaired(matches: Matches, errors: Errors, kind: int) -> Matches:
    """Return the matches with the errors of one kind repaired."""
    mine = errors.kind == kind
    outcome, label = matches.outcome.copy(), matches.label.copy()
    # One detection is corrected for each object that was not found: the best score among those with the wrong class or
    # place, even if it is of the other kind and so stays as it is (as in the published code).
    candidates = np.flatnonzero(errors.object >= 0)
    candidates = candidates[np.argsort(-matches.score[candidates], kind="stable")]
    candidates = candidates[errors.lost[errors.object[candidates]]]
    _, first = np.unique(errors.object[candidates], return_index=True)
    right = candidates[first]
    right = right[mine[right]]
    outcome[right, 0] = 1
    label[right] = matches.object_label[errors.object[right]]
    out = mine.copy()
    out[right] = False
    return _without_detections(replace(matches, outcome=outcome, label=label), out)


def _without_detections(matches: Matches, out: npt.NDArray[np.bool_]) -> Matches:
    """Return the matches in which some detections do not count."""
    outcome = matches.outcome.copy()
    outcome[out] = -1
    return replace(matches, outcome=outcome)


def _without_objects(matches: Matches, out: npt.NDArray[np.bool_]) -> Matches:
    """Return the matches in which some objects, which no detection found, do not count."""
    return replace(matches, object_crowd=matches.object_crowd | out)
