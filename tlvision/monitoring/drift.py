"""Test whether the records of a log come from the distribution of a reference: inputs, features and predictions.

Sources: Rabanser, Günnemann and Lipton, "Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift",
NeurIPS 2019 (MMD on features, Kolmogorov-Smirnov on single numbers, corrected for their number); distances as for
`tlvision domain-gap` (`tlvision.evaluation.distances`). Differences: p-values are those of permutations, the
correction is Holm's, and an alarm also needs a difference of some size, because with many images any two sets differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tlvision.evaluation.distances import FeatureGap, Measured, class_shift, feature_gap, mean_shift
from tlvision.evaluation.two_samples import holm, number_test, share_test
from tlvision.monitoring.columns import COLOURS, Columns, Numbers
from tlvision.types import counted

MIN_RECORDS = 16
"""Images that each side must have; with fewer nothing is measured."""
PERMUTATIONS = 2000
FEATURES, NUMBER, CLASSES = 0.25, 0.2, 0.1
"""Least sizes of a difference for an alarm. A tap: a quarter of the way of the A-distance from its floor to 2, as for
`domain-gap`. A number: a Kolmogorov-Smirnov statistic of 0.2, that of two normal distributions half a standard
deviation apart. Class shares: 0.1 of total variation beyond the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTest:
    """One comparison of the log with the reference.

    name:    of a tap, a number of images, or "class shares". kind: how it is compared.
    group:   "input", "features" or "predictions".
    p:       of the permutations; 1 if a side has too little of it, None if nothing ever changes, both with `reason`.
    corrected: p for the number of tests.
    size:    of the difference; least: that from which there is an alarm.
    means:   of a number in the reference and in the log. shift: their difference in standard deviations.
    shares:  total variation of class shares, with its floor.
    gap:     distances of features.
    alarm:   whether the difference is more than chance, and large.
    """

    name: str
    group: Literal["input", "features", "predictions"]
    kind: Literal["features", "number", "classes"]
    p: float | None = None
    corrected: float | None = None
    size: float = 0.0
    least: float
    means: tuple[float, float] | None = None
    shift: float | None = None
    shares: Measured | None = None
    gap: FeatureGap | None = None
    alarm: bool = False
    reason: str = ""

    def difference(self) -> str:
        """Return both means of a number, or a distance with its floor, for people."""
        if self.means is not None:
            return f"{self.means[0]:.3g} → {self.means[1]:.3g}"
        if self.gap is not None:
            return f"A-distance {self.gap.a_distance.value:.2f} (floor {self.gap.a_distance.floor:.2f})"
        return "" if self.shares is None else f"{self.shares.value:.2f} (floor {self.shares.floor:.2f})"


def measure_drift(reference: Columns, log: Columns, *, alpha: float, seed: int = 0) -> list[DriftTest]:
    """Return the tests, features first.

    reference, log: `MIN_RECORDS` images at least each. alpha: share of false alarms, 0..1. seed: of permutations and
    subsets.

    If both sides are drawn from one distribution, the probability of any alarm is at most `alpha`, whatever depends on
    what among the tests: each p-value is valid, and Holm's correction holds under any dependence. What one side has too
    little of counts as a test all the same, so that the number of tests doesn't depend on what is tested.
    """
    tests = [*_features(reference, log, seed), *_numbers(reference, log, seed), _classes(reference, log, seed)]
    corrected = holm([test.p for test in tests])
    return [
        replace(
            test,
            corrected=value,
            alarm=value is not None and value <= alpha and test.size >= test.least,
        )
        for test, value in zip(tests, corrected, strict=True)
    ]


def _features(reference: Columns, log: Columns, seed: int) -> Iterator[DriftTest]:
    for name, first in reference.taps.items():
        gap = feature_gap(first, log.taps[name], seed=seed, permutations=PERMUTATIONS)
        yield DriftTest(
            name=name,
            group="features" if name != COLOURS else "input",
            kind="features",
            p=gap.p_value,
            size=max(0.0, gap.share()),
            least=FEATURES,
            gap=gap,
        )


def _numbers(reference: Columns, log: Columns, seed: int) -> Iterator[DriftTest]:
    for name, first in reference.numbers().items():
        second = log.numbers().get(name, np.full(len(log), np.nan))
        test = DriftTest(
            name=name, group="input" if name in reference.inputs else "predictions", kind="number", least=NUMBER
        )
        yield _number(test, first[np.isfinite(first)], second[np.isfinite(second)], seed)


def _number(test: DriftTest, first: Numbers, second: Numbers, seed: int) -> DriftTest:
    if min(len(first), len(second)) < MIN_RECORDS:
        count = min(len(first), len(second))
        return replace(test, p=1.0, reason=f"{counted(count, 'image')} of one side, and {MIN_RECORDS} are needed")
    means = float(first.mean()), float(second.mean())
    if np.ptp(np.concatenate([first, second])) == 0:
        return replace(test, means=means, reason="it never changes")
    size, p = number_test(first, second, permutations=PERMUTATIONS, seed=seed)
    return replace(test, p=p, size=size, means=means, shift=mean_shift(first, second))


def _classes(reference: Columns, log: Columns, seed: int) -> DriftTest:
    test = DriftTest(name="class shares", group="predictions", kind="classes", least=CLASSES)
    sides = reference.classes, log.classes
    if reference.classes.shape[1] < 2:
        return replace(test, reason="there is one class")
    if any(side.sum() == 0 for side in sides):
        return replace(test, p=1.0, reason="one side has no object")
    _, p = share_test(*sides, permutations=PERMUTATIONS, seed=seed)
    measured = class_shift(*sides, seed=seed)
    return replace(test, p=p, size=max(0.0, measured.value - measured.floor), shares=measured)
