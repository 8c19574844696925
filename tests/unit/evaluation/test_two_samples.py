"""Two-sample tests, against scipy and slow loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tlvision.evaluation.distances import total_variation
from tlvision.evaluation.two_samples import number_test, share_test


def test_the_statistic_and_p_value_are_those_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.5, 1.0):
        first, second = rng.normal(size=30), rng.normal(size=21) + shift
        value, p = number_test(first, second, permutations=20_000, seed=1)
        wanted = stats.ks_2samp(first, second, method="exact")
        assert value == pytest.approx(wanted.statistic, abs=1e-12)
        assert p == pytest.approx(wanted.pvalue, abs=0.02)


def test_equal_numbers_on_both_sides_are_compared_once() -> None:
    first, second = [0.0] * 8 + [1.0] * 8, [0.0] * 4 + [1.0] * 4
    assert number_test(first, second) == (0.0, 1.0)
    value, _ = number_test([0, 0, 0, 1], [0, 1, 1, 1])
    assert value == pytest.approx(stats.ks_2samp([0, 0, 0, 1], [0, 1, 1, 1]).statistic)


def test_p_values_are_rarely_small_if_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    numbers, shares = [], []
    for seed in range(200):
        first, second = rng.poisson(2, 20), rng.poisson(2, 16)  # with many equal ones
        numbers.append(number_test(first, second, permutations=199, seed=seed)[1])
        one, other = rng.poisson(1, (12, 3)), rng.poisson(1, (12, 3))
        shares.append(share_test(one, other, permutations=99, seed=seed)[1])
    for values in (numbers, shares):
        assert 0 < np.mean(np.array(values) <= 0.1) <= 0.14
        assert np.mean(np.array(values) <= 0.02) <= 0.04


def test_shares_are_compared_by_whole_images() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.poisson(2, (20, 4)), rng.poisson([4, 2, 1, 1], (15, 4))
    value, p = share_test(first, second)
    assert value == pytest.approx(total_variation(first.sum(axis=0), second.sum(axis=0)))
    union = np.concatenate([first, second])
    larger = 0
    for _ in range(1000):
        order = rng.permutation(35)
        larger += total_variation(union[order[:20]].sum(axis=0), union[order[20:]].sum(axis=0)) >= value
    assert p == pytest.approx((larger + 1) / 1001, abs=0.02)
    # One image with all the objects is no evidence.
    lone = np.zeros((20, 2))
    lone[0] = 1000, 0
    assert share_test(lone + np.array([0, 1]), np.ones((20, 2)) * (0, 1))[1] > 0.3
