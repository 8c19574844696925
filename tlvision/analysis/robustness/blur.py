"""Corruptions by optics: defocus blur and motion blur.

Every function takes an image (H, W, 3) uint8 RGB, its strength as a share of the long side and a generator, and returns
a new image of that shape.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.types import Pixels

Kernel = npt.NDArray[np.float32]
_SAMPLES_PER_PIXEL = 8


def defocus_blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Average over a disc whose radius is `strength` times the long side: a lens out of focus."""
    return _filtered(image, disc(strength * max(image.shape[:2])))


def motion_blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Average over a line whose length is `strength` times the long side, at a random angle: a moving camera."""
    return _filtered(image, line(strength * max(image.shape[:2]), math.pi * rng.random()))


def disc(radius: float) -> Kernel:
    """Return a disc with a smooth rim as a kernel of odd side and sum 1.

    radius: in pixels, any fraction.

    >>> disc(0.2).tolist(), disc(3.4).shape
    ([[1.0]], (9, 9))
    """
    reach = math.ceil(radius - 0.5) + 1 if radius > 0.5 else 0
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    distance = np.hypot(steps[:, None], steps[None])
    return _normalised(np.clip(radius + 0.5 - distance, 0, 1))


def line(length: float, angle: float) -> Kernel:
    """Return a line through the middle as a kernel of odd side and sum 1.

    length: in pixels, any fraction. angle: in radians, clockwise from the x axis as seen on the screen.

    >>> [float(f"{weight:.3f}") for weight in line(4, 0)[2]]
    [0.125, 0.25, 0.25, 0.25, 0.125]
    """
    reach = math.ceil(length / 2)
    side = 2 * reach + 1
    count = max(1, math.ceil(length * _SAMPLES_PER_PIXEL))
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    x, y = reach + along * math.cos(angle), reach + along * math.sin(angle)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    kernel = np.zeros((side + 1, side + 1))
    for across, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - across - (x - left)) * np.abs(1 - down - (y - top))
        np.add.at(kernel, (top + down, left + across), share)
    return _normalised(kernel[:side, :side])


def _normalised(weights: npt.NDArray[np.float64]) -> Kernel:
    kernel: Kernel = (weights / weights.sum()).astype(np.float32)
    return kernel


def _filtered(image: Pixels, kernel: Kernel) -> Pixels:
    if max(kernel.shape) == 1:
        return image.copy()
    # The border is mirrored, so that no dark rim appears.
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT), np.uint8)
