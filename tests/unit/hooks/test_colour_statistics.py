from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

import tlvision
from tlvision.hooks.data.colour_statistics import ColourStatistics, match_histograms, match_statistics
from tlvision.types import InputError


def make_images() -> tuple[Any, Any]:
    """Two images whose exchange of colours stays within what RGB can show."""
    rng = np.random.default_rng(0)
    one = np.clip(rng.normal((110, 120, 130), 10, (20, 30, 3)), 0, 255).astype(np.uint8)
    two = np.clip(rng.normal((140, 125, 100), 20, (25, 15, 3)), 0, 255).astype(np.uint8)
    return one, two


def lab_of(image: Any) -> Any:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_mean_and_deviation_in_lab_are_the_others(strength: float) -> None:
    image, other = make_images()
    own, wanted, found = lab_of(image), lab_of(other), lab_of(match_statistics(image, other, strength))
    mean = (1 - strength) * own.mean(axis=0) + strength * wanted.mean(axis=0)
    factor = 1 + strength * (wanted.std(axis=0) / own.std(axis=0) - 1)
    assert np.abs(wanted.mean(axis=0) - own.mean(axis=0)).min() > 1
    np.testing.assert_allclose(found, (own - own.mean(axis=0)) * factor + mean, atol=1.0)  # 8 bits
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.15)
    np.testing.assert_allclose(found.std(axis=0), factor * own.std(axis=0), atol=0.15)


def test_a_plain_image_is_only_shifted() -> None:
    _, other = make_images()
    found = match_statistics(np.full((8, 8, 3), 90, np.uint8), other, 1.0)
    assert (found == found[0, 0]).all()
    np.testing.assert_allclose(lab_of(found).mean(axis=0), lab_of(other).mean(axis=0), atol=0.5)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_each_level_becomes_the_one_that_is_as_high_up_in_the_other(strength: float) -> None:
    image, other = make_images()
    found = match_histograms(image, other, strength)
    for channel in range(3):
        theirs = sorted(other[..., channel].ravel().tolist())
        ours = sorted(image[..., channel].ravel().tolist())
        levels = sorted(set(theirs))
        shares = [sum(value <= level for value in theirs) / len(theirs) for level in levels]
        for level in set(ours):
            share = sum(value <= level for value in ours) / len(ours)
            target = float(np.interp(share, shares, levels))
            expected = round(level + strength * (target - level), 6)
            (value,) = set(found[..., channel][image[..., channel] == level].tolist())
            assert abs(value - expected) <= 0.51


def test_histograms_of_a_shuffled_image_are_the_others() -> None:
    _, other = make_images()
    image = (np.random.default_rng(1).permutation(other.reshape(-1, 3)).reshape(other.shape) // 2).astype(np.uint8)
    found = match_histograms(image, other, 1.0)
    for channel in range(3):
        gaps = np.sort(found[..., channel].ravel()).astype(int) - np.sort(other[..., channel].ravel())
        assert np.abs(gaps).max() <= 2, "halving merges two levels"


@pytest.mark.parametrize("match", ["statistics", "histogram"])
def test_probability_and_nothing_is_written_to(match: Any) -> None:
    image, other = make_images()
    image.setflags(write=False)
    other.setflags(write=False)
    rng = np.random.default_rng(0)
    found = [ColourStatistics(match=match, probability=0.3).change(image, other, rng) for _ in range(300)]
    assert 60 < sum(each is not image for each in found) < 120
    assert {(each.dtype, each.shape) for each in found} == {(np.dtype(np.uint8), image.shape)}
    assert all((each != image).any() for each in found if each is not image)


@pytest.mark.slow
def test_a_run(adapt_config: dict[str, Any]) -> None:
    adapt_config["hooks"] += [{"colour_statistics": {"match": "histogram", "strength": 0.5}}, "fourier_style"]
    adapt_config["data"]["batch"] = {"labelled": 4}
    tlvision.train(adapt_config)


def test_no_target_is_refused(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].append("colour_statistics")
    with pytest.raises(InputError, match="'colour_statistics' learns from unlabelled images"):
        tlvision.train(tiny_config)
