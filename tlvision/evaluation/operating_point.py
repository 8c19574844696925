"""Choose the score from which a detection counts, for each class, on labelled images.

Source: van Rijsbergen, Information Retrieval, 1979 (F measure); a threshold for each class maximises it class by class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.curves import at_thresholds, ranked_counts, ratios
from tlvision.evaluation.matching import Matches
from tlvision.types import ClassThresholds, InputError, counted

MIN_OBJECTS = 10
"""Fewest objects of a class to choose a threshold by."""
DEFAULT_SCORE = 0.25
"""Threshold of a model for which none can be chosen."""

Goal = Literal["f1", "precision", "recall"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a threshold is chosen.

    goal:  "f1": the threshold with the best F1. "precision": the lowest threshold with a precision of at least `value`.
           "recall": the highest threshold with a recall of at least `value`.
    value: 0 < value <= 1; None for "f1".

    >>> str(Rule("f1")), str(Rule("recall", 0.95))
    ('the best F1', 'recall of at least 0.95')
    """

    goal: Goal = "f1"
    value: float | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.goal == "f1"):
            raise InputError(f"operating point: '{self.goal}' {'has no' if self.goal == 'f1' else 'needs a'} value")
        if self.value is not None and not 0 < self.value <= 1:
            raise InputError(f"operating point: expected a {self.goal} above 0 and up to 1, got {self.value}")

    def __str__(self) -> str:
        """Return the rule in words."""
        return "the best F1" if self.goal == "f1" else f"{self.goal} of at least {self.value:g}"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Thresholds that a rule chose.

    rule:       in words.
    thresholds: for every class.
    notes:      name -> why its threshold is not what the rule asks for; "" -> the same of the default.
    """

    rule: str
    thresholds: ClassThresholds
    notes: dict[str, str]

    def as_json(self, matches: Matches) -> dict[str, Any]:
        """Return it for a JSON file, with its precision and recall on the images of `matches`; see `at_thresholds`.

        Keys: rule, iou, default (threshold of a class that is not named), note (where the default is not what the rule
        asks for), all and per_class as `at_thresholds` has them, each class with `note` where there is one.
        """
        found = at_thresholds(matches, self.thresholds)
        rows = {
            name: {**row, **({"note": self.notes[name]} if name in self.notes else {})}
            for name, row in found["per_class"].items()
        }
        return {
            "rule": self.rule,
            "iou": float(matches.thresholds[0]),
            "default": self.thresholds.default,
            **({"note": self.notes[""]} if "" in self.notes else {}),
            "all": found["all"],
            "per_class": rows,
        }


def choose_thresholds(matches: Matches, rule: Rule | None = None, *, least: int = MIN_OBJECTS) -> OperatingPoint:
    """Return the threshold of each class by a rule, at the first IoU threshold of the matches.

    rule:  None for the best F1.
    least: fewest objects of a class; a class with fewer gets the threshold that the rule chooses for all classes
           together, and a note. If there are fewer in all classes together, that is `DEFAULT_SCORE`, with a note.

    A threshold lies in the middle between the last score that counts and the next one, so that a small change of a
    score does not matter.
    """
    rule = rule or Rule()
    total, notes = int(matches.objects.sum()), dict[str, str]()
    if total < least:
        default = DEFAULT_SCORE
        notes[""] = (
            f"{counted(total, 'object')} in all classes, {least} are needed; {DEFAULT_SCORE} is not chosen by data"
        )
    else:
        default, note = _choose(matches, np.arange(len(matches.label)), total, rule)
        if note:
            notes[""] = note
    chosen: dict[str, float] = {}
    for label, (name, objects) in enumerate(zip(matches.names, matches.objects.tolist(), strict=True)):
        if objects < least:
            notes[name] = (
                f"{counted(objects, 'object')}, {least} are needed to choose a threshold; the one of all classes counts"
            )
            continue
        chosen[name], note = _choose(matches, np.flatnonzero(matches.label == label), objects, rule)
        if note:
            notes[name] = note
    return OperatingPoint(str(rule), ClassThresholds(default, chosen), notes)


def _choose(matches: Matches, chosen: npt.NDArray[np.int64], objects: int, rule: Rule) -> tuple[float, str]:
    """Return the threshold, and why it is not what the rule asks for ("" if it is)."""
    score, right, wrong = ranked_counts(matches, chosen)
    last = np.flatnonzero(np.append(np.diff(score) < 0, True)) if len(score) else np.zeros(0, np.int64)
    score, right, wrong = score[last], right[last], wrong[last]  # one row for each score that occurs, descending
    if not right.any():
        return DEFAULT_SCORE, f"no detection is right; {DEFAULT_SCORE} is not chosen by data"
    precision, recall, f1 = ratios(right, wrong, objects)
    note, wanted = "", rule.value or 0.0
    if rule.goal == "f1":
        index = int(np.argmax(f1))
    elif rule.goal == "precision":
        enough = np.flatnonzero(precision >= wanted)
        index = int(enough[-1]) if len(enough) else int(np.argmax(precision))
        note = "" if len(enough) else f"precision {wanted:g} is not reached; the highest is {precision[index]:.3f}"
    else:
        enough = np.flatnonzero(recall >= wanted)
        index = int(enough[0]) if len(enough) else int(np.argmax(recall))
        note = "" if len(enough) else f"recall {wanted:g} is not reached; the highest is {recall[index]:.3f}"
    return _between(score, index), note


def _between(score: npt.NDArray[np.float64], index: int) -> float:
    """Return a threshold between a score and the next lower one, with as few digits as that allows."""
    high, low = float(score[index]), float(score[index + 1]) if index + 1 < len(score) else 0.0
    middle = (high + low) / 2
    for digits in range(2, 17):
        value = round(middle, digits)
        if low < value <= high:
            return min(max(value, 0.0), 1.0)
    return min(max(high, 0.0), 1.0)
