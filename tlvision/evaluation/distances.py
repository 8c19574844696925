"""Distances between two sets of feature vectors: proxy A-distance, Fréchet distance, MMD. Imports no torch.

Sources: Ben-David et al., Analysis of Representations for Domain Adaptation, 2007, and A Theory of Learning from
Different Domains, 2010 (A-distance); Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, equation 6
(Fréchet distance); Gretton et al., A Kernel Two-Sample Test, 2012, lemma 6 (unbiased MMD, permutation test); Long et
al., Learning Transferable Features with Deep Adaptation Networks, 2015 (several kernels at once).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float64]
"""(N, C) float64: one row an image."""

MIN_IMAGES = 8
"""Images that a side must have: half of them, four, is the least that can be cut into folds."""
_FOLDS = 4
_RIDGE = 0.1
_MOST_COMPONENTS = 32
_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """One distance between two sets, and its floor: the same distance between two halves of one set.

    value: mean over pairs of equally large random subsets, one from each set.
    floor: the same between disjoint random halves of one set, which are as large as those subsets; of the two sets, the
           one where it is larger. A value near its floor is no gap: that much comes of having few images.
    """

    value: float
    floor: float

    def times(self) -> float:
        """Return how many times the floor the value is; inf where the floor is 0 and the value is not."""
        if self.floor > 0:
            return self.value / self.floor
        return math.inf if self.value > 0 else 1.0


@dataclass(frozen=True, slots=True)
class FeatureGap:
    """All distances between two sets of feature vectors.

    a_distance: 0 (no linear classifier separates the sets) to 2 (one separates them perfectly).
    frechet:    >= 0, squared, on `components` principal components, where 1 is the total variance of both sets there:
                two points far apart have 4.
    mmd:        squared maximum mean discrepancy, unbiased: may be below 0 if the sets are alike.
    p_value:    share of random relabellings with an MMD as large: 1 / (permutations + 1) .. 1.
    size:       vectors in each of the subsets that `a_distance` and `frechet` compare.
    components: principal components that `frechet` is computed on.
    """

    a_distance: Measured
    frechet: Measured
    mmd: Measured
    p_value: float
    size: int
    components: int

    def share(self) -> float:
        """Return where the A-distance lies between its floor (0) and 2 (1); below 0 if it is under its floor."""
        floor = self.a_distance.floor
        return (self.a_distance.value - floor) / (2 - floor) if floor < 2 else 0.0


def feature_gap(
    first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0, repeats: int = 10, permutations: int = 500
) -> FeatureGap:
    """Measure how far apart two sets of vectors are, and how much of that is noise.

    first, second: (N, C) and (M, C) floats, one row an image; N, M >= 8. Every channel is standardised over both.
    seed:          of the subsets and the permutations.
    repeats:       pairs of subsets whose mean is taken.
    permutations:  relabellings for the p-value.

    All distances grow as there are fewer vectors, so that a floor is comparable only if it comes from sets of the same
    size: gap and floor are both measured between sets of min(N, M) // 2.

    Raises ValueError if the shapes do not fit, a side has fewer than 8 rows, or a value is not finite.

    >>> rng = np.random.default_rng(0)
    >>> gap = feature_gap(rng.normal(size=(60, 5)), rng.normal(size=(60, 5)) + 4)
    >>> gap.a_distance.value > 1.9, gap.a_distance.floor < 0.7, gap.p_value < 0.01
    (True, True, True)
    """
    a, b = _checked(first), _checked(second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"feature_gap: expected equally many channels, got {a.shape[1]} and {b.shape[1]}")
    a, b = standardise(a, b)
    size = min(len(a), len(b)) // 2
    components = max(1, min(_MOST_COMPONENTS, a.shape[1], (size - 1) // 2))
    reduced = principal_components(a, b, components)
    spread = math.sqrt(max(float(sum((side**2).sum(axis=1).mean() for side in reduced)) / 2, 1e-12))
    pairs = Pairs(len(a), len(b), seed=seed, repeats=repeats)
    value, p_value = mmd_test(a, b, permutations=permutations, seed=seed)
    scale = _median_square(np.concatenate([a, b]))
    halves = pairs.measure(a, b, lambda x, y: mmd(x, y, scale))
    return FeatureGap(
        # Clipped after the mean: clipping each would turn the noise of equal sets into a distance.
        a_distance=_clipped(pairs.measure(a, b, lambda x, y: 2 * (1 - 2 * domain_error(x, y)))),
        frechet=pairs.measure(reduced[0] / spread, reduced[1] / spread, frechet_between),
        mmd=Measured(value, halves.floor),
        p_value=p_value,
        size=size,
        components=components,
    )


class Pairs:
    """Equally large random subsets of two sets, and disjoint halves of each, always the same ones for a seed.

    first, second: number of vectors of the two sets. A subset has min(first, second) // 2 of them.
    """

    def __init__(self, first: int, second: int, *, seed: int, repeats: int = 10) -> None:
        rng = np.random.default_rng(seed)
        size = min(first, second) // 2
        self._orders = [(rng.permutation(first), rng.permutation(second)) for _ in range(repeats)]
        self._size = size

    def measure(self, first: Any, second: Any, distance: Callable[[Any, Any], float]) -> Measured:
        """Return the mean of `distance` over the pairs, with its floor.

        first, second: arrays whose rows are the vectors (anything that takes an array of row numbers as index).
        """
        size = self._size
        low, high = slice(0, size), slice(size, 2 * size)
        between = [distance(first[a[low]], second[b[low]]) for a, b in self._orders]
        within_first = [distance(first[a[low]], first[a[high]]) for a, _ in self._orders]
        within_second = [distance(second[b[low]], second[b[high]]) for _, b in self._orders]
        floor = max(float(np.mean(within_first)), float(np.mean(within_second)))
        return Measured(float(np.mean(between)), floor)


def standardise(first: Vectors, second: Vectors) -> tuple[Vectors, Vectors]:
    """Return both sets with mean 0 and standard deviation 1 in every channel of their union.

    first, second: (N, C) and (M, C). Both count alike, however many images each has. A channel that never changes
    becomes 0.
    """
    mean = (first.mean(axis=0) + second.mean(axis=0)) / 2
    square = (((first - mean) ** 2).mean(axis=0) + ((second - mean) ** 2).mean(axis=0)) / 2
    deviation = np.sqrt(square)
    silent = deviation <= 1e-9 * (1 + np.abs(mean))
    scale = np.where(silent, 1.0, deviation)
    keep = ~silent
    return (first - mean) / scale * keep, (second - mean) / scale * keep


def principal_components(first: Vectors, second: Vectors, count: int) -> tuple[Vectors, Vectors]:
    """Return both sets on the first `count` principal components of their union, (N, count) and (M, count).

    Fewer come back where the union has fewer dimensions. The sign of a component is the one that makes its largest
    loading positive, so that pictures do not flip from machine to machine.
    """
    union = np.concatenate([first, second])
    centre = union.mean(axis=0)
    _, _, rows = np.linalg.svd(union - centre, full_matrices=False)
    axes = rows[:count]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    axes = axes * np.where(signs == 0, 1, signs)[:, None]
    return (first - centre) @ axes.T, (second - centre) @ axes.T


def domain_error(first: Vectors, second: Vectors, folds: int = _FOLDS) -> float:
    """Return the error, 0..1, of a linear classifier of the two sets, on vectors it was not fitted to.

    first, second: (N, C) and (M, C), at least `folds` rows each. The classifier is ridge regression on the labels +1
    and -1, with channels standardised over the fitted part, cross-validated with every `folds`-th row held out. The
    ridge is a tenth of the mean square length of a vector: with more channels than images, no ridge would fit noise.
    The errors of both sets count alike.

    >>> domain_error(np.full((8, 1), 1.0), np.full((8, 1), -1.0))
    0.0
    """
    errors = [0.0, 0.0]
    for fold in range(folds):
        held = [np.arange(len(side)) % folds == fold for side in (first, second)]
        fitted, middle = _ridge(first[~held[0]], second[~held[1]])
        for side, (vectors, mask, sign) in enumerate(zip((first, second), held, (1, -1), strict=True)):
            score = sign * ((vectors[mask] - middle) @ fitted)
            # A score of 0 is a coin toss.
            errors[side] += float((score < 0).sum() + 0.5 * (score == 0).sum()) / len(vectors)
    return sum(errors) / 2


def _ridge(first: Vectors, second: Vectors) -> tuple[Vectors, Vectors]:
    """Return weights (C,) and the point (C,) where the score is 0; positive scores mean `first`."""
    middle = (first.mean(axis=0) + second.mean(axis=0)) / 2
    x = np.concatenate([first, second]) - middle
    deviation = x.std(axis=0)
    scale = np.where(deviation > 1e-12, deviation, 1.0)
    x = x / scale
    y = np.concatenate([np.full(len(first), 1 / len(first)), np.full(len(second), -1 / len(second))])
    # The dual form: as many unknowns as vectors, however many channels there are.
    kernel = x @ x.T
    ridge = _RIDGE * max(float(np.trace(kernel)) / len(x), 1e-12)
    weights: Vectors = x.T @ np.linalg.solve(kernel + ridge * np.eye(len(x)), y) / scale
    return weights, middle


def frechet_distance(mean_a: Vectors, cov_a: Vectors, mean_b: Vectors, cov_b: Vectors) -> float:
    """Return the squared Fréchet distance of two normal distributions, as FID has it.

    mean_a, mean_b: (C,). cov_a, cov_b: (C, C), symmetric, no negative eigenvalue.

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), equation 6 of Heusel et al. The trace of the root
    is taken as the sum of the roots of the eigenvalues of cov_a^(1/2) cov_b cov_a^(1/2), which is symmetric.

    >>> round(frechet_distance(np.zeros(1), np.eye(1), np.array([3.0]), 4 * np.eye(1)), 9)
    10.0
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    difference = mean_a - mean_b
    return max(0.0, float(difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * roots))


def frechet_between(first: Vectors, second: Vectors) -> float:
    """Return `frechet_distance` of the normal distributions fitted to (N, C) and (M, C) vectors; N, M > C preferred."""
    return frechet_distance(
        first.mean(axis=0),
        np.atleast_2d(np.cov(first, rowvar=False)),
        second.mean(axis=0),
        np.atleast_2d(np.cov(second, rowvar=False)),
    )


def mmd(first: Vectors, second: Vectors, scale: float) -> float:
    """Return the unbiased squared MMD of (N, C) and (M, C) vectors, with the mean of five Gaussian kernels.

    scale: square distance by which the kernels fall to 1/e at 1/4, 1/2, 1, 2 and 4 times it.
    """
    signs = np.concatenate([np.ones(len(first), bool), np.zeros(len(second), bool)])
    return float(_mmd_of(_kernel(np.concatenate([first, second]), scale), signs[:, None])[0])


def mmd_test(first: Vectors, second: Vectors, *, permutations: int = 500, seed: int = 0) -> tuple[float, float]:
    """Return the unbiased squared MMD and the p-value of "both come from one distribution".

    first, second: (N, C) and (M, C). The kernels' scale is the median square distance between any two vectors.
    p-value: (1 + relabellings with an MMD at least as large) / (1 + permutations).
    """
    union = np.concatenate([first, second])
    kernel = _kernel(union, _median_square(union))
    rng = np.random.default_rng(seed)
    observed = np.arange(len(union)) < len(first)
    columns = [observed] + [rng.permutation(observed) for _ in range(permutations)]
    values = _mmd_of(kernel, np.stack(columns, axis=1))
    return float(values[0]), float(1 + (values[1:] >= values[0]).sum()) / (1 + permutations)


def _mmd_of(kernel: Vectors, members: npt.NDArray[np.bool_]) -> Vectors:
    """Return (P,) MMDs; kernel is (N, N), and members (N, P) marks the rows of the first set."""
    kernel = kernel - np.diag(np.diag(kernel))  # a vector is not compared with itself: that is what makes it unbiased
    one = members.astype(np.float64)
    other = 1 - one
    n, m = one.sum(axis=0), other.sum(axis=0)
    inside_one = (one * (kernel @ one)).sum(axis=0) / (n * (n - 1))
    inside_other = (other * (kernel @ other)).sum(axis=0) / (m * (m - 1))
    result: Vectors = inside_one + inside_other - 2 * (one * (kernel @ other)).sum(axis=0) / (n * m)
    return result


def _kernel(vectors: Vectors, scale: float) -> Vectors:
    squares = _squares(vectors) / max(scale, 1e-12)
    result: Vectors = np.mean([np.exp(-squares / width) for width in _BANDWIDTHS], axis=0)
    return result


def _squares(vectors: Vectors) -> Vectors:
    lengths = (vectors**2).sum(axis=1)
    squares: Vectors = np.clip(lengths[:, None] + lengths[None] - 2 * vectors @ vectors.T, 0, None)
    return squares


def _median_square(vectors: Vectors) -> float:
    upper = np.triu_indices(len(vectors), 1)
    return float(np.median(_squares(vectors)[upper]))


def _clipped(measured: Measured) -> Measured:
    return Measured(min(max(measured.value, 0.0), 2.0), min(max(measured.floor, 0.0), 2.0))


def _checked(vectors: npt.ArrayLike) -> Vectors:
    array = np.asarray(vectors, np.float64)
    if array.ndim != 2 or array.shape[1] < 1 or len(array) < MIN_IMAGES:
        raise ValueError(f"feature_gap: expected (N, C) with N >= {MIN_IMAGES}, C >= 1, got {array.shape}")
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise ValueError(f"feature_gap: row {rows[0]} (of {len(rows)}) holds a value that is not finite")
    return array


def total_variation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return half the summed difference of two distributions over classes: 0 (equal) to 1 (nothing in common).

    first, second: (K,) counts, >= 0; they are divided by their sums. Where both are empty it is 0, where one is, 1.

    >>> total_variation([3, 1], [1, 3])
    0.5
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not one.sum() or not other.sum():
        return float(bool(one.sum()) != bool(other.sum()))
    return float(np.abs(one / one.sum() - other / other.sum()).sum() / 2)


def class_shift(first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0) -> Measured:
    """Return the total variation distance between the class shares of two sets of images, with its floor.

    first, second: (N, K) and (M, K): how much of each class there is in each image, in any unit (objects, pixels).

    >>> class_shift([[1, 0]] * 8, [[0, 1]] * 8)
    Measured(value=1.0, floor=0.0)
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    pairs = Pairs(len(one), len(other), seed=seed)
    return pairs.measure(one, other, lambda x, y: total_variation(x.sum(axis=0), y.sum(axis=0)))


def mean_shift(first: Sequence[float] | Vectors, second: Sequence[float] | Vectors) -> float | None:
    """Return the difference of two means, second minus first, in pooled standard deviations (Cohen's d).

    Values that are not finite are left out. None if a side has fewer than two left or nothing varies at all.

    >>> mean_shift([0.0, 2.0], [2.0, 4.0])
    1.414213562373095
    """
    one, other = (np.asarray(side, np.float64) for side in (first, second))
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    if len(one) < 2 or len(other) < 2:
        return None
    deviation = math.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2)
    return float((other.mean() - one.mean()) / deviation) if deviation > 0 else None
