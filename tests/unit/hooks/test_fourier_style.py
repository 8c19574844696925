from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tlvision
from fast import first_fast
from tlvision.hooks.data.fourier_style import FourierStyle, exchange_amplitudes
from tlvision.types import InputError


def make_images(height: int = 24, width: int = 33) -> tuple[Any, Any]:
    """Two smooth images whose exchange stays within 0..255."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 10
    one = 120 + 20 * np.sin(x + 2 * y) + rng.normal(0, 6, (height, width))
    two = 140 + 15 * np.cos(2 * x - y) + rng.normal(0, 6, (height, width))
    return tuple(np.stack([each, each[::-1], each[:, ::-1]], axis=-1).astype(np.uint8) for each in (one, two))


def whole_transforms(image: Any, other: Any, beta: float) -> Any:
    """The authors' own steps, in float64: shift, cut a square around the centre, exchange, shift back."""
    ours, theirs = (
        np.fft.fftshift(np.fft.fft2(each.astype(float), axes=(0, 1)), axes=(0, 1)) for each in (image, other)
    )
    height, width = image.shape[:2]
    reach, row, column = int(min(height, width) * beta), height // 2, width // 2
    amplitude = np.abs(ours)
    square = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
    amplitude[square] = np.abs(theirs)[square]
    mixed = amplitude * np.exp(1j * np.angle(ours))
    return np.real(np.fft.ifft2(np.fft.ifftshift(mixed, axes=(0, 1)), axes=(0, 1)))


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.1, 0.3, 0.49])
@pytest.mark.parametrize("size", [(24, 33), (33, 24), (32, 32)])
def test_it_is_the_same_as_whole_transforms(beta: float, size: tuple[int, int]) -> None:
    image, other = make_images(*size)
    expected = np.clip(whole_transforms(image, other, beta), 0, 255)
    found = exchange_amplitudes(image, other, beta)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.abs(found - expected).max() <= 0.51  # rounding to 8 bits


def test_phases_are_kept_and_low_amplitudes_are_the_others() -> None:
    image, other = make_images()
    found = np.fft.fft2(exchange_amplitudes(image, other, 0.1), axes=(0, 1))
    ours, theirs = (np.fft.fft2(each.astype(float), axes=(0, 1)) for each in (image, other))
    noise = 0.5 * np.sqrt(24 * 33)  # of the rounding, in a coefficient
    low = [(u, v) for u in range(-2, 3) for v in range(-2, 3)]
    assert len(low) == 25
    changed = 0
    for u in range(-12, 12):
        for v in range(-16, 17):
            wanted = np.abs(theirs if (u, v) in low else ours)[u, v]
            assert np.abs(np.abs(found[u, v]) - wanted).max() < 4 * noise
            changed += int((np.abs(np.abs(ours) - np.abs(theirs))[u, v] > 8 * noise).all() and (u, v) in low)
            loud = wanted > 50 * noise
            turned = np.angle(found[u, v] / ours[u, v])[loud]
            assert (np.abs(turned) < 0.1).all()
    assert changed, "an exchange that shows"


def test_a_plain_image_takes_the_mean_and_stays_plain() -> None:
    image = np.full((20, 30, 3), 50, np.uint8)
    _, other = make_images(20, 30)
    found = exchange_amplitudes(image, other, 0.2)
    assert np.abs(found - other.mean(axis=(0, 1))).max() <= 0.51


def test_the_other_image_may_have_any_size_and_nothing_is_written_to() -> None:
    image, _ = make_images()
    image.setflags(write=False)
    for size in ((7, 5), (90, 200)):
        other = make_images(*size)[1]
        other.setflags(write=False)
        found = FourierStyle(probability=1.0).change(image, other, np.random.default_rng(0))
        assert found.shape == image.shape
        assert found.dtype == np.uint8


def test_probability() -> None:
    image, other = make_images()
    rng = np.random.default_rng(0)
    hook = FourierStyle(probability=0.3, beta=0.1)
    changed = sum(hook.change(image, other, rng) is not image for _ in range(300))
    assert 60 < changed < 120
    assert FourierStyle(probability=0.0).change(image, other, rng) is image


@pytest.mark.slow
@pytest.mark.parametrize("workers", first_fast([1, 0]))
def test_a_run(adapt_config: dict[str, Any], workers: int) -> None:
    adapt_config["hooks"].append({"fourier_style": {"beta": 0.05}})
    adapt_config["data"] |= {"batch": {"labelled": 4}, "workers": workers}
    tlvision.train(adapt_config)


def test_no_target_is_refused(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].append("fourier_style")
    with pytest.raises(InputError, match="'fourier_style' learns from unlabelled images"):
        tlvision.train(tiny_config)
