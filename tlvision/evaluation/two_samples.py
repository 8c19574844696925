"""Test whether two sets of images have one distribution of a number, or of classes; and correct for several tests.

Each p-value is the share of random relabellings of the images with a statistic at least as large (Gretton et al., A
Kernel Two-Sample Test, 2012, section 5, for the MMD). It is valid for any number of images and for ties, as long as
images are exchangeable: those of one set are independent draws. Imports no torch.

Sources: Massey, The Kolmogorov-Smirnov Test for Goodness of Fit, 1951; Holm, A Simple Sequentially Rejective Multiple
Test Procedure, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.distances import total_variation


def number_test(
    first: npt.ArrayLike, second: npt.ArrayLike, *, permutations: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov statistic of two sets of numbers, 0..1, and its p-value.

    first, second: (N,) and (M,) finite, N, M >= 1. The statistic is the largest difference of the shares of both sets
    that are at most some value: 0 if the sets are alike, 1 if all of one set are below all of the other.

    >>> number_test([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])[0]
    1.0
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    union = np.concatenate([one, other])
    order = np.argsort(union, kind="stable")
    ends = np.append(np.diff(union[order]) > 0, True)  # between equal numbers there is no value to compare at
    members = _relabelled(len(one), len(other), permutations, seed)[order]
    below = np.cumsum(members, axis=0)[ends]
    total = np.flatnonzero(ends)[:, None] + 1
    values = np.abs(below / len(one) - (total - below) / len(other)).max(axis=0)
    return float(values[0]), _p_value(values)


def share_test(
    first: npt.ArrayLike, second: npt.ArrayLike, *, permutations: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the total variation distance between the class shares of two sets of images, 0..1, and its p-value.

    first, second: (N, K) and (M, K), how much of each class each image has, as for
    `tlvision.evaluation.distances.class_shift`. Whole images are relabelled: objects of one image are not independent.

    >>> share_test([[1, 0]] * 8, [[1, 0]] * 8)
    (0.0, 1.0)
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    members = _relabelled(len(one), len(other), permutations, seed).astype(np.float64)
    union = np.concatenate([one, other])
    sums = members.T @ union, (1 - members).T @ union  # (P + 1, K) each
    values = np.array([total_variation(*pair) for pair in zip(*sums, strict=True)])
    return float(values[0]), _p_value(values)


def _relabelled(first: int, second: int, permutations: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return (N + M, P + 1) which image is of the first set: as it is, then by random relabellings."""
    observed = np.arange(first + second) < first
    columns = np.repeat(observed[:, None], permutations, axis=1)
    return np.concatenate([observed[:, None], np.random.default_rng(seed).permuted(columns, axis=0)], axis=1)


def _p_value(values: npt.NDArray[np.float64]) -> float:
    """Return the share of values that are at least the first one, which counts too; equal ones may differ by rounding.

    >>> _p_value(np.array([2.0, 1.0, 3.0, 2.0]))
    0.75
    """
    return float((values >= values[0] - 1e-12).mean())


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number (Holm 1979); None stays.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    found: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        found[place] = highest
    return found
