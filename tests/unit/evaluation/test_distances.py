"""Distances between sets of vectors, against closed forms, scipy and slow loops."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from tlvision.evaluation.distances import (
    Measured,
    class_shift,
    domain_error,
    feature_gap,
    frechet_between,
    frechet_distance,
    mean_shift,
    mmd,
    mmd_test,
    principal_components,
    standardise,
    total_variation,
)

Array = npt.NDArray[np.float64]


def normal(seed: int, n: int, c: int, shift: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, c)) + shift


def test_frechet_of_diagonal_gaussians_is_the_closed_form() -> None:
    mean_a, mean_b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, -1.0])
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    expected = 1 + 0 + 9 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(mean_a, np.diag(a), mean_b, np.diag(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_frechet_agrees_with_scipys_matrix_root(seed: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + 1
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    difference = x.mean(0) - y.mean(0)
    expected = difference @ difference + np.trace(cov_x + cov_y - 2 * linalg.sqrtm(cov_x @ cov_y).real)
    assert frechet_between(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_a_set_with_itself_is_zero_also_where_a_direction_is_flat() -> None:
    flat = np.diag([1.0, 0.0])
    assert frechet_distance(np.zeros(2), flat, np.zeros(2), flat) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(np.zeros(2), flat, np.zeros(2), np.diag([0.0, 1.0])) == pytest.approx(2)


def slow_domain_error(first: Array, second: Array) -> float:
    """The same classifier in the primal form, one held-out vector after the other."""
    rates = []
    for side, (own, other, sign) in enumerate(((first, second, 1), (second, first, -1))):
        wrong = 0.0
        for index, vector in enumerate(own):
            keep_own = np.array([row for k, row in enumerate(own) if k % 4 != index % 4])
            keep_other = np.array([row for k, row in enumerate(other) if k % 4 != index % 4])
            a, b = (keep_own, keep_other) if side == 0 else (keep_other, keep_own)
            middle = (a.mean(0) + b.mean(0)) / 2
            x = np.concatenate([a, b]) - middle
            deviation = x.std(axis=0)
            x = x / deviation
            y = np.array([1 / len(a)] * len(a) + [-1 / len(b)] * len(b))
            ridge = 0.1 * float((x**2).sum()) / len(x)
            weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
            wrong += sign * float((vector - middle) / deviation @ weights) < 0
        rates.append(wrong / len(own))
    return sum(rates) / 2


@pytest.mark.parametrize("seed", range(4))
def test_the_classifier_agrees_with_a_slow_one(seed: int) -> None:
    first, second = normal(seed, 24, 3), normal(seed + 50, 20, 3, shift=0.7) * 1.5
    error = domain_error(first, second)
    assert error == pytest.approx(slow_domain_error(first, second))
    assert 0.05 < error < 0.5


def test_a_ridge_keeps_the_classifier_sane_with_as_many_channels_as_vectors() -> None:
    """Where both numbers are equal, least squares alone fits the noise exactly and is at its worst."""
    errors = [domain_error(normal(s, 40, 60), normal(s + 50, 40, 60, shift=0.5)) for s in range(6)]
    assert np.mean(errors) < 0.12


def test_a_distance_is_2_for_separable_sets_and_about_0_for_equal_ones() -> None:
    assert feature_gap(normal(0, 60, 5), normal(1, 60, 5, shift=8)).a_distance.value == 2.0
    same = feature_gap(normal(0, 400, 5), normal(1, 400, 5))
    assert same.a_distance.value < 0.1
    assert abs(same.share()) < 0.1


@pytest.mark.parametrize("channels", [3, 40, 600])
def test_sets_of_one_distribution_are_at_their_floor_however_many_channels(channels: int) -> None:
    shares, ratios, p_values = [], [], []
    for seed in range(8):
        gap = feature_gap(normal(seed, 40, channels), normal(seed + 100, 44, channels), seed=seed)
        shares.append(gap.share())
        ratios.append(gap.frechet.times())
        p_values.append(gap.p_value)
    assert abs(np.mean(shares)) < 0.15
    assert 0.8 < np.mean(ratios) < 1.2
    assert sum(p < 0.05 for p in p_values) <= 2


def test_unequal_numbers_of_images_do_not_look_like_a_gap() -> None:
    """With 400 vectors the Fréchet bias is small, with 20 it is large: only sets of one size can be compared."""
    ratios = [feature_gap(normal(s, 400, 30), normal(s + 9, 20, 30), seed=s).frechet.times() for s in range(6)]
    assert 0.8 < np.mean(ratios) < 1.2
    assert feature_gap(normal(0, 400, 30), normal(1, 20, 30)).size == 10


def test_a_gap_grows_with_the_shift_in_every_distance() -> None:
    gaps = [feature_gap(normal(0, 80, 10), normal(1, 80, 10, shift=shift)) for shift in (0.0, 0.4, 1.5)]
    for values in ([g.a_distance.value for g in gaps], [g.frechet.value for g in gaps], [g.mmd.value for g in gaps]):
        assert values[0] < values[1] < values[2]
    assert gaps[2].p_value == pytest.approx(1 / 501)
    assert gaps[2].frechet.times() > 5


def test_two_points_far_apart_have_frechet_4_as_promised() -> None:
    gap = feature_gap(normal(0, 40, 4), normal(1, 40, 4, shift=1000))
    assert gap.frechet.value == pytest.approx(4, abs=0.01)


def test_no_number_depends_on_the_scale_of_a_channel() -> None:
    a, b = normal(0, 30, 4), normal(1, 30, 4, shift=0.5)
    scale = np.array([1.0, 100.0, 0.01, 5.0])
    plain, scaled = feature_gap(a, b), feature_gap(a * scale + 3, b * scale + 3)
    assert plain.frechet.value == pytest.approx(scaled.frechet.value, rel=1e-6)
    assert plain.mmd.value == pytest.approx(scaled.mmd.value, rel=1e-6)
    assert plain.a_distance == scaled.a_distance


def test_a_seed_gives_the_same_numbers_and_dead_channels_do_not_matter() -> None:
    a, b = normal(0, 30, 4), normal(1, 33, 4, shift=0.5)
    assert feature_gap(a, b, seed=3) == feature_gap(a, b, seed=3)
    dead = feature_gap(np.c_[a, np.full(30, 7.0)], np.c_[b, np.full(33, 7.0)], seed=3)
    assert dead.mmd.value == pytest.approx(feature_gap(a, b, seed=3).mmd.value, rel=1e-9)
    silent = feature_gap(np.ones((8, 2)), np.ones((9, 2)))
    assert (silent.a_distance.value, silent.frechet.value, silent.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (np.zeros((7, 3)), np.zeros((9, 3)), "N >= 8"),
        (np.zeros((9, 3)), np.zeros((9, 4)), "3 and 4"),
        (np.zeros(9), np.zeros((9, 4)), r"\(9,\)"),
        (np.full((9, 3), np.nan), np.zeros((9, 3)), "row 0"),
    ],
)
def test_what_cannot_be_measured_is_an_error(first: Array, second: Array, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        feature_gap(first, second)


def slow_mmd(first: Array, second: Array, scale: float) -> float:
    def kernel(x: Array, y: Array) -> float:
        square = sum((p - q) ** 2 for p, q in zip(x, y, strict=True))
        return sum(math.exp(-square / (scale * width)) for width in (0.25, 0.5, 1, 2, 4)) / 5

    def inside(rows: Array) -> float:
        values = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return sum(values) / len(values)

    across = [kernel(x, y) for x in first for y in second]
    return inside(first) + inside(second) - 2 * sum(across) / len(across)


def test_mmd_agrees_with_slow_loops() -> None:
    a, b = normal(0, 12, 3), normal(1, 9, 3, shift=0.5)
    assert mmd(a, b, 4.0) == pytest.approx(slow_mmd(a, b, 4.0), rel=1e-10)


def test_mmd_is_unbiased_and_its_p_value_is_fair() -> None:
    results = [mmd_test(normal(s, 20, 4), normal(s + 1000, 15, 4), permutations=99, seed=s) for s in range(120)]
    values, p_values = np.array(results).T
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
    assert (values < 0).any()
    assert 0.4 < p_values.mean() < 0.6
    assert (p_values <= 0.05).mean() < 0.12
    assert mmd_test(normal(0, 20, 4), normal(1, 15, 4, shift=2), permutations=99)[1] == 0.01


def test_both_sides_count_alike_when_channels_are_standardised() -> None:
    a, b = standardise(np.zeros((90, 1)), np.full((10, 1), 2.0))
    assert (a == -1).all()
    assert (b == 1).all()


def test_principal_components_keep_distances_and_have_a_fixed_sign() -> None:
    a, b = normal(0, 12, 2), normal(1, 10, 2, shift=3)
    flat_a, flat_b = principal_components(a, b, 2)
    assert np.linalg.norm(flat_a[0] - flat_b[0]) == pytest.approx(np.linalg.norm(a[0] - b[0]))
    again = principal_components(b, a, 2)
    assert again[1] == pytest.approx(flat_a)
    assert np.concatenate([flat_a, flat_b])[:, 0].var() > np.concatenate([flat_a, flat_b])[:, 1].var()


def test_class_shares() -> None:
    assert total_variation([2, 2, 0], [0, 5, 5]) == 0.5
    assert total_variation([0, 0], [0, 0]) == 0.0
    assert total_variation([0, 0], [3, 0]) == 1.0
    rng = np.random.default_rng(0)
    a, b = rng.poisson([5, 2, 1], (60, 3)), rng.poisson([5, 2, 1], (70, 3))
    same, other = class_shift(a, b), class_shift(a, rng.poisson([1, 2, 5], (70, 3)))
    assert same.value < 2.5 * same.floor < 0.25
    assert other.value == pytest.approx(0.5, abs=0.05)
    assert other.floor < 0.1


def test_mean_shift_leaves_out_what_is_not_known() -> None:
    assert mean_shift([0.0, 2.0, math.nan], [2.0, 4.0]) == pytest.approx(math.sqrt(2))
    assert mean_shift([1.0, 1.0], [1.0, 1.0]) is None
    assert mean_shift([1.0, math.nan], [1.0, 2.0]) is None


def test_times_the_floor() -> None:
    assert Measured(3.0, 1.5).times() == 2.0
    assert Measured(3.0, 0.0).times() == math.inf
    assert Measured(0.0, 0.0).times() == 1.0


def test_measuring_imports_no_torch() -> None:
    code = "import sys, tlvision.analysis.domain_gap.advice as _; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
