"""Give labelled images the low frequencies of unlabelled ones, which hold colour and light but hardly any shape.

Source: Yang & Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020, the equation of x^(s->t):
the amplitudes of the frequencies within a square of half size beta around 0 are those of the other image, all phases
and the other amplitudes stay. The same result another way: only the few frequencies that change are computed, as
products with small matrices of sines, and what they change is added to the image (640 x 640 pixels at beta 0.01 take a
third of the time of whole transforms, at 0.09 as long). Differences: another image is drawn for each image and each
epoch; a frequency that the image does not have gets none, because it has no phase; the result is rounded to 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from pydantic import Field

from tlvision.hooks.base import DataHook
from tlvision.hooks.parameters import Share

if TYPE_CHECKING:
    import numpy.typing as npt

# Of the amplitude of an image of one grey level: below, float32 holds no phase.
_SILENCE = 1e-6


class FourierStyle(DataHook):
    """Exchange the low-frequency amplitudes of each colour with those of an unlabelled image.

    beta:        half the side of the square of frequencies, as a fraction of the image's shorter side, below 0.5; the
                 authors use 0.01, 0.05 and 0.09. At 0 only the mean of each colour is exchanged.
    probability: how likely an image is changed, 0..1.
    """

    def __init__(
        self,
        *,
        beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.01,
        probability: Share = 0.5,
    ) -> None:
        self.beta, self.probability = beta, probability

    def change(
        self, image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """Return the image with the low frequencies of `other`, (H, W, 3) uint8."""
        if rng.random() >= self.probability:
            return image
        height, width = image.shape[:2]
        if other.shape != image.shape:
            shrinks = other.shape[0] * other.shape[1] > height * width
            other = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[assignment]
        return exchange_amplitudes(image, other, self.beta)


def exchange_amplitudes(
    image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], beta: float
) -> npt.NDArray[np.uint8]:
    """Return the image with the amplitudes of `other` at the frequencies |u|, |v| <= beta * the shorter side.

    image, other: (H, W, 3) uint8 of one shape. Returns (H, W, 3) uint8, clipped to 0..255.
    """
    height, width = image.shape[:2]
    reach = min(int(min(height, width) * beta), (min(height, width) - 1) // 2)
    down = _waves(height, np.arange(-reach, reach + 1))  # (H, 2b + 1)
    across = _waves(width, np.arange(reach + 1))  # (W, b + 1): the other half is its mirror image
    planes = np.ascontiguousarray(np.stack([image, other]).transpose(0, 3, 1, 2), np.float32)  # (2, 3, H, W)
    rows = planes @ across.real + 1j * (planes @ across.imag)  # (2, 3, H, b + 1)
    own, wanted = down.T @ rows  # (3, 2b + 1, b + 1) each
    amplitude = np.abs(own)
    heard = amplitude > _SILENCE * 255 * height * width
    gain = np.where(heard, np.abs(wanted) / np.where(heard, amplitude, 1) - 1, 0)
    added = np.conj(down) @ (own * gain).astype(np.complex64)  # (3, H, b + 1)
    twice = np.where(np.arange(reach + 1) > 0, 2, 1).astype(np.float32)[:, None]
    back = twice * across.T / np.float32(height * width)  # (b + 1, W), real part of the product with its conjugate
    changed = planes[0] + added.real @ back.real + added.imag @ back.imag
    pixels: npt.NDArray[np.uint8] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _waves(length: int, frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.complex64]:
    """Return exp(-2 pi i x f / length) for the places x and frequencies f, (length, F) complex64."""
    turns = np.outer(np.arange(length), frequencies) % length / length  # whole turns away: float32 wants small angles
    waves: npt.NDArray[np.complex64] = np.exp(-2j * np.pi * turns).astype(np.complex64)
    return waves
