"""Statistics of few repetitions: intervals of a mean, and p-values.

Intervals are Student's t: of three seeds a percentile bootstrap covers the true difference in about three of four cases
only (a test), because three values have ten different resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

LEVEL = 0.95
_STEPS = 500


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """A mean with its interval: of `count` paired differences; low, high and p are None for a single one."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    count: int


def mean_difference(differences: Sequence[float]) -> MeanDifference:
    """Return mean, 95 % interval and two-sided p-value of paired differences (Student's t).

    Raises ValueError without a difference.

    >>> found = mean_difference([0.01, 0.02, 0.03])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), round(found.p, 3)
    (0.02, -0.005, 0.045, 0.074)
    """
    count = len(differences)
    if not count:
        raise ValueError("expected at least one difference")
    mean = float(np.mean(differences))
    if count == 1:
        return MeanDifference(mean, None, None, None, 1)
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    half = t_quantile((1 + LEVEL) / 2, count - 1) * error
    if error == 0:
        return MeanDifference(mean, mean, mean, 1.0 if mean == 0 else 0.0, count)
    p = 2 * (1 - t_probability(abs(mean) / error, count - 1))
    return MeanDifference(mean, mean - half, mean + half, p, count)


def t_probability(value: float, freedom: int) -> float:
    """Return the probability that a t variable with that many degrees of freedom is at most `value`.

    >>> round(t_probability(2.0, 3), 6)
    0.930337
    """
    # With x = sqrt(freedom) tan(angle), the density is a power of the cosine: smooth, and over a finite range.
    angles = np.linspace(0, math.atan(value / math.sqrt(freedom)), 2 * _STEPS + 1)
    heights = np.cos(angles) ** (freedom - 1)
    area = (
        (angles[1] - angles[0])
        / 3
        * float(heights[0] + 4 * heights[1::2].sum() + 2 * heights[2:-1:2].sum() + heights[-1])
    )
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return float(0.5 + scale * area)


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """Return the value that a t variable does not exceed with that probability, above 0.5.

    >>> round(t_quantile(0.975, 2), 4)
    4.3027
    """
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
    return (low + high) / 2
