"""Say whether one model is better than another: paired bootstrap over images, with several seeds folded in.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 6 and 13 (percentile interval); Koehn,
Statistical Significance Tests for Machine Translation Evaluation, 2004 (pairs). Each resample draws images, the same
ones for every model, and then, for each side, as many of its runs as it has. Difference: the deviation of the drawn
runs from the mean of all is multiplied by sqrt(k / (k - 1)) for k runs, because a bootstrap of k values is too narrow
by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tlvision.evaluation.matching import Floats
from tlvision.evaluation.per_image import PerImage

REPEATS = 1000
_AT_A_TIME = 25
"""Resamples in one call: enough for numpy, and few enough to stay in the cache."""
_THREADS = 2

Verdict = Literal["better", "worse", "no evidence", "not measured"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two models.

    reference, other: values on the images as they are, means over the runs of a side; None if not measured.
    low, high:        95 % interval of other - reference; None if not measured, or if hardly any resample can be
                      measured, as of a class with one or two images.
    verdict:          "better" or "worse" (of the other) if the interval leaves out 0.
    p:                share of the resamples on the smaller side of 0, twice; None like low and high.
    """

    reference: float | None
    other: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    p: float | None = None

    @property
    def difference(self) -> float | None:
        """Return other - reference, None if one is not measured."""
        return None if self.reference is None or self.other is None else self.other - self.reference


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """Metrics of several runs on the same resamples of their images.

    values: metric -> (runs, 1 + B); the first column is of the images as they are.
    """

    values: Mapping[str, Floats]
    seed: int

    def difference(
        self, metric: str, reference: Sequence[int], other: Sequence[int], *, higher_is_better: bool = True
    ) -> Difference:
        """Return how the runs `other` differ from the runs `reference` (positions) in one metric."""
        rows = self.values[metric]
        sides = [rows[list(reference)], rows[list(other)]]
        plain = [_or_none(float(side[:, 0].mean())) for side in sides]
        drawn = [self._with_seeds(side[:, 1:], number) for number, side in enumerate(sides)]
        gaps = drawn[1] - drawn[0]
        measured = gaps[~np.isnan(gaps)]
        if None in plain or len(measured) < 0.9 * max(1, len(gaps)):
            return Difference(plain[0], plain[1], None, None, "not measured")
        low, high = (float(each) for each in np.quantile(measured, (0.025, 0.975)))
        sides_of_zero = min(float((measured <= 0).mean()), float((measured >= 0).mean()))
        p = min(1.0, max(2 * sides_of_zero, 1 / len(measured)))  # no resample on the other side is not a p of 0
        return Difference(plain[0], plain[1], low, high, _verdict(low, high, higher_is_better), p)

    def interval(self, metric: str, runs: Sequence[int]) -> tuple[float, float] | None:
        """Return the 95 % interval of a metric of some runs (positions), None if it is not measured."""
        values = self._with_seeds(self.values[metric][list(runs), 1:], 0)
        measured = values[~np.isnan(values)]
        if len(measured) < 0.9 * max(1, len(values)):
            return None
        low, high = np.quantile(measured, (0.025, 0.975))
        return float(low), float(high)

    def _with_seeds(self, values: Floats, stream: int) -> Floats:
        """Return (B,) the mean of runs drawn with replacement. values: (runs, B)."""
        runs, repeats = values.shape
        mean: Floats = values.mean(axis=0)
        if runs == 1:
            return mean
        drawn = np.random.default_rng([self.seed, stream]).integers(0, runs, (runs, repeats))
        deviation = np.take_along_axis(values, drawn, axis=0).mean(axis=0) - mean
        result: Floats = mean + np.sqrt(runs / (runs - 1)) * deviation
        return result


def bootstrap(
    runs: Sequence[PerImage], *, repeats: int = REPEATS, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Bootstrap:
    """Return the metrics of all runs on `repeats` resamples of their images.

    runs:     of the same images in the same order.
    progress: called with the number of resamples that have been done since the last call.

    Raises ValueError if the images differ, or there are none.

    >>> import numpy as np
    >>> from tlvision.evaluation.per_image import LabelMapsPerImage
    >>> pixels = np.array([[[9, 1], [10, 2], [10, 2]]] * 5)
    >>> one = LabelMapsPerImage(["road", "car"], list("abcde"), pixels)
    >>> bootstrap([one, one], repeats=50).difference("semantic/mean_class_iou", [0], [1]).verdict
    'no evidence'
    """
    images = list(runs[0].images)
    if not images or any(list(run.images) != images for run in runs):
        raise ValueError("bootstrap: expected runs on the same images, at least one")
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(images), np.full(len(images), 1 / len(images)), size=repeats)
    parts = [np.ones((1, len(images)))] + [weights[i : i + _AT_A_TIME] for i in range(0, repeats, _AT_A_TIME)]
    done: list[dict[str, Floats]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for values, part in zip(pool.map(lambda part: [run.metrics(part) for run in runs], parts), parts, strict=True):
            done.append({name: np.stack([each[name] for each in values]) for name in values[0]})
            if progress is not None:
                progress(len(part))
    return Bootstrap({name: np.concatenate([part[name] for part in done], axis=1) for name in done[0]}, seed)


def intervals(results: PerImage, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return {"intervals": …}, the 95 % interval of each metric over all classes, for metrics.json; {} for 0 repeats.

    The images are drawn with replacement. A metric that is not measured has no interval.
    """
    if not repeats:
        return {}
    resampled = bootstrap([results], repeats=repeats)
    found = {name: resampled.interval(name, [0]) for name in resampled.values if " " not in name}
    return {"intervals": {name: list(each) for name, each in found.items() if each is not None}}


def _verdict(low: float, high: float, higher_is_better: bool) -> Verdict:
    if low <= 0 <= high:
        return "no evidence"
    return "better" if (low > 0) == higher_is_better else "worse"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
