"""Statistics equal scipy's, and intervals cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tlvision.evaluation.two_samples import holm
from tlvision.experiment.statistics import mean_difference, t_probability, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30, 200])
def test_students_t_is_scipys(freedom: int) -> None:
    for value in (0.0, 0.3, 1.0, 2.5, 12.0):
        assert t_probability(value, freedom) == pytest.approx(stats.t.cdf(value, freedom), abs=1e-10)
    for probability in (0.6, 0.9, 0.975, 0.995):
        assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-8)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_paired_differences_are_scipys_paired_test(count: int) -> None:
    generator = np.random.default_rng(count)
    first, second = generator.normal(0.5, 0.02, count), generator.normal(0.52, 0.02, count)
    found, expected = mean_difference(list(second - first)), stats.ttest_rel(second, first)
    interval = expected.confidence_interval(0.95)
    assert found.mean == pytest.approx((second - first).mean())
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_one_difference_has_no_interval_and_equal_ones_no_width() -> None:
    single = mean_difference([0.25])
    assert (single.mean, single.low, single.high, single.p) == (0.25, None, None, None)
    assert mean_difference([0.0, 0.0]).p == 1
    assert mean_difference([0.5, 0.5]).p == 0
    with pytest.raises(ValueError, match="at least one"):
        mean_difference([])


def test_of_three_seeds_the_interval_covers_and_a_bootstrap_would_not() -> None:
    generator = np.random.default_rng(0)
    covered = {"t": 0, "bootstrap": 0}
    worlds = 2000
    for values in generator.normal(0, 1, (worlds, 3)):
        found = mean_difference(list(values))
        assert found.low is not None
        assert found.high is not None
        covered["t"] += found.low <= 0 <= found.high
        means = values[np.stack(np.meshgrid(*[range(3)] * 3), axis=-1).reshape(-1, 3)].mean(axis=1)  # all 27 resamples
        low, high = np.quantile(means, (0.025, 0.975))
        covered["bootstrap"] += low <= 0 <= high
    assert 0.935 < covered["t"] / worlds < 0.965
    assert covered["bootstrap"] / worlds < 0.8


def test_holm_is_the_step_down_procedure() -> None:
    """Against the definition: reject the smallest left while it is at most the level divided by the number left."""
    generator = np.random.default_rng(1)
    for _ in range(200):
        values = list(generator.beta(0.3, 2, 6))
        corrected = holm(values)
        for level in (0.01, 0.05, 0.2):
            left, rejected = sorted(range(6), key=lambda place: values[place]), set()
            while left and values[left[0]] <= level / len(left):
                rejected.add(left.pop(0))
            assert {place for place, p in enumerate(corrected) if p is not None and p <= level} == rejected
    assert holm([None, 0.5, None]) == [None, 0.5, None]
