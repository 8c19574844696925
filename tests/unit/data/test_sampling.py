"""How often images come: by the formulas of the papers, exactly, and the same in every process."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlvision.data.sampling import image_weights, sampling_note, weighted_order
from tlvision.data.settings import AugmentSettings, InputSettings, SamplingSettings
from tlvision.data.train_images import TrainImages
from tlvision.types import InputSpec

PRESENT = np.array([[1, 0, 0]] * 6 + [[1, 1, 0]] * 2 + [[0, 0, 1]] + [[0, 0, 0]], bool)


def test_repeat_factors_are_those_of_the_paper() -> None:
    settings = SamplingSettings(kind="repeat_factor", threshold=0.5)
    share = PRESENT.mean(axis=0)
    slow = [max([max(1.0, (0.5 / share[c]) ** 0.5) for c in np.flatnonzero(row)], default=1.0) for row in PRESENT]
    weights = image_weights(settings, PRESENT)
    assert weights is not None
    assert np.allclose(weights, np.array(slow) / np.mean(slow))
    assert image_weights(SamplingSettings(kind="repeat_factor", threshold=0.1), PRESENT) is None
    assert "raise data.sampling.threshold" in sampling_note(SamplingSettings(kind="repeat_factor", threshold=0.1), None)


def test_class_balanced_equals_a_class_drawn_first() -> None:
    weights = image_weights(SamplingSettings(kind="class_balanced", max_repeat=100), PRESENT)
    assert weights is not None
    rng = np.random.default_rng(0)
    drawn = Counter(int(rng.choice(np.flatnonzero(PRESENT[:, rng.integers(3)]))) for _ in range(60_000))
    some = weights[:9] / weights[:9].sum()
    assert np.allclose(some, [drawn[index] / 60_000 for index in range(9)], atol=0.01)
    assert weights[9] > 0, "an image without objects still comes"
    assert "in an epoch an image comes" in sampling_note(SamplingSettings(kind="class_balanced"), weights)


@pytest.mark.parametrize("kind", ["repeat_factor", "class_balanced"])
def test_no_image_comes_more_often_than_allowed(kind: Any) -> None:
    rare = np.zeros((500, 2), bool)
    rare[:, 0] = True
    rare[0, 1] = True
    weights = image_weights(SamplingSettings(kind=kind, threshold=1.0, max_repeat=4), rare)
    assert weights is not None
    assert weights.max() / weights.min() == pytest.approx(4)


def test_uniform_and_no_labels_need_no_weights() -> None:
    assert image_weights(SamplingSettings(), PRESENT) is None
    assert image_weights(SamplingSettings(kind="class_balanced"), np.zeros((4, 2), bool)) is None


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_has_every_image_as_often_as_its_weight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 3, 40)
    weights /= weights.mean()
    order = weighted_order(weights, rng)
    counts = np.bincount(order, minlength=40)
    assert (np.diff(order) < 0).sum() > 8, "the order is random"
    assert len(order) == 40
    assert (np.abs(counts - weights) < 1).all()
    many = np.bincount(np.concatenate([weighted_order(weights, rng) for _ in range(2000)]), minlength=40) / 2000
    assert np.allclose(many, weights, atol=0.05)


def test_the_stream_follows_the_weights_and_its_position(make_sample: Callable[..., Any]) -> None:
    samples = [make_sample(n, (20, 30), [[2, 3, 15, 18]]) for n in range(6)]
    weights = np.array([3.0, 1.5, 0.375, 0.375, 0.375, 0.375])
    images = TrainImages(samples, InputSpec(), InputSettings(32, AugmentSettings()), num_classes=1, weights=weights)
    counts = Counter(images.index(position) for position in range(6 * 400))
    assert [counts[n] / 400 for n in range(6)] == pytest.approx(weights.tolist(), abs=0.1)
    copy = pickle.loads(pickle.dumps(images))
    assert [copy.index(position) for position in (17, 3, 11)] == [images.index(position) for position in (17, 3, 11)]
    mosaics = Counter(each for n in range(300) for each in images._any(np.random.default_rng(n), 3))
    assert mosaics[0] > 4 * mosaics[5], "mosaics take their other images by weight too"
