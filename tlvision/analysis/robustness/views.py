"""Corruptions by the position of the camera: smaller objects and rotation, as maps of the image within its frame.

Every function takes height and width of the image, its strength and a generator, and returns a matrix (3, 3) float64
from pixels of the image to pixels of the frame, which has the same size; see `tlvision.data.geometry`.
"""

from __future__ import annotations

import numpy as np

from tlvision.data.geometry import Matrix, rotate, scale, translate


def shrink(size: tuple[int, int], strength: float, rng: np.random.Generator) -> Matrix:
    """Shrink the image about its middle; `strength` is the factor of width and height.

    >>> shrink((40, 80), 0.5, np.random.default_rng(0))[:2].tolist()
    [[0.5, 0.0, 20.0], [0.0, 0.5, 10.0]]
    """
    return _about_the_middle(size, scale(strength, strength))


def turn(size: tuple[int, int], strength: float, rng: np.random.Generator) -> Matrix:
    """Rotate the image about its middle by `strength` degrees, to the left or the right at random."""
    return _about_the_middle(size, rotate(strength if rng.random() < 0.5 else -strength))


def _about_the_middle(size: tuple[int, int], matrix: Matrix) -> Matrix:
    height, width = size
    return translate(width / 2, height / 2) @ matrix @ translate(-width / 2, -height / 2)
