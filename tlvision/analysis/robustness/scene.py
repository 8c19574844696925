"""Corruptions by what is in front of the camera: fog and occlusion.

Every function takes an image (H, W, 3) uint8 RGB, its strength and a generator, and returns a new image of that shape.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.analysis.robustness.light import to_pixels
from tlvision.types import Pixels

_AIRLIGHT = 0.88
_PATCHINESS = 0.8
_MAX_OPACITY = 0.95
_CELLS = 6


def fog(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Mix a light grey into the image, as scattered light does: opacity * airlight + (1 - opacity) * image.

    strength: mean opacity, 0..1. The opacity varies over the image in clouds of several sizes.
    """
    height, width = image.shape[:2]
    spread = _PATCHINESS * min(strength, 1 - strength)
    opacity = np.clip(strength + spread * _clouds(height, width, rng), 0, _MAX_OPACITY)[..., None]
    return to_pixels(image.astype(np.float32) / 255 * (1 - opacity) + np.float32(_AIRLIGHT) * opacity)


def _clouds(height: int, width: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return smooth noise (height, width) with mean 0 and values of about -1..1: octaves of random grids."""
    total = np.zeros((height, width), np.float32)
    for octave in range(1, 7):
        grid = rng.standard_normal((2**octave + 1, 2**octave + 1), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.55**octave)
    total -= total.mean()
    return total / max(float(2 * total.std()), 1e-6)


def occlusion(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Cover a share of the image with square patches, each of a random grey.

    strength: covered share, 0..1. There is one patch in each cell of a grid of six cells along the long side, at a
    random place in its cell, so that the patches are spread over the image. A larger patch covers a smaller one
    of the same generator.

    >>> covered = occlusion(np.zeros((120, 120, 3), np.uint8), 0.25, np.random.default_rng(0))
    >>> float((covered.max(axis=2) > 0).mean())
    0.25
    """
    height, width = image.shape[:2]
    cell = max(height, width) / _CELLS
    side = math.sqrt(strength) * cell
    result = image.copy()
    for row in range(_CELLS):
        for column in range(_CELLS):  # cells beyond a short side draw as well, so that shapes do not shift the draws
            x, y = (column * cell, row * cell) + rng.random(2) * (cell - side)
            grey = rng.integers(30, 226)
            result[round(y) : round(y + side), round(x) : round(x + side)] = grey
    return result
