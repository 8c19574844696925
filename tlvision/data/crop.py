"""Random crops for label maps: scale, rotate and mirror an image, and choose a window with enough labelled pixels.

The window is drawn anew while one class fills more than `crop_limit` of it (Chen et al. 2018, DeepLabv3+, crop 513; the
limit as in mmsegmentation's recipes), or put onto a pixel of a class that is drawn first, all classes of the image
alike, so that rare ones are seen as often as common ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tlvision.data.augment import Placement
from tlvision.data.geometry import (
    Matrix,
    apply,
    fitted_size,
    flip_horizontal,
    flip_vertical,
    paint,
    rotate,
    scale,
    shear,
    translate,
)
from tlvision.data.settings import AugmentSettings
from tlvision.types import IGNORE_INDEX, InputSpec, Pixels

_TRIES = 10
# The share of a class is counted on every fourth pixel of every fourth row.
_COARSE = 4

Range = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def place_crop(  # noqa: PLR0917
    rng: np.random.Generator,
    settings: AugmentSettings,
    size: tuple[int, int],
    full: tuple[int, int],
    crop: tuple[int, int],
    spec: InputSpec,
    label_map: Callable[[], Pixels] | None,
) -> Placement:
    """Place an image so that a window of it is seen.

    size:      height and width of the image.
    full:      height and width of the canvas that the whole image would be fitted into, before it is scaled.
    crop:      height and width of the window.
    label_map: gives (height, width) uint8 class indices of the image; None if any window will do.
    """
    matrix = _affine(rng, settings, size, full, spec)
    corners = apply(matrix, np.array([[0, 0], [size[1], 0], [size[1], size[0]], [0, size[0]]], np.float64))
    low, high = corners.min(axis=0), corners.max(axis=0) - (crop[1], crop[0])
    origins = np.minimum(low, high), np.maximum(low, high)
    aware = rng.random() < settings.crop_class_aware
    if label_map is None:
        return _window(matrix, rng.uniform(*origins))
    if aware:
        return _window(matrix, _around_a_class(rng, label_map(), matrix, crop, origins))
    for _ in range(_TRIES):
        placement = _window(matrix, rng.uniform(*origins))
        if settings.crop_limit >= 1 or _largest_share(label_map(), placement, crop) <= settings.crop_limit:
            break
    return placement


def _affine(
    rng: np.random.Generator, settings: AugmentSettings, size: tuple[int, int], full: tuple[int, int], spec: InputSpec
) -> Matrix:
    """Draw the map from the image to itself as large as it is fitted into `full`, scaled, turned, slanted, mirrored."""
    gain, turn, slant_x, slant_y = rng.uniform(-1, 1, 4)
    mirror, upset = rng.random(2)
    height, width = fitted_size(size, full, keep_aspect=spec.resize == "letterbox")
    factor = 1 + settings.scale * gain
    matrix = scale(factor * width / size[1], factor * height / size[0])
    if settings.rotate or settings.shear:
        matrix = rotate(settings.rotate * turn) @ shear(settings.shear * slant_x, settings.shear * slant_y) @ matrix
    if mirror < settings.flip:
        matrix = flip_horizontal(0) @ matrix
    if upset < settings.flip_vertical:
        matrix = flip_vertical(0) @ matrix
    return matrix


def _window(matrix: Matrix, origin: npt.NDArray[np.float64]) -> Placement:
    # Whole pixels: an image that is not scaled is then copied and not interpolated.
    x, y = np.round(origin)
    return Placement(translate(-x, -y) @ matrix, None)


def _around_a_class(
    rng: np.random.Generator, labels: Pixels, matrix: Matrix, crop: tuple[int, int], origins: Range
) -> npt.NDArray[np.float64]:
    """Return the origin of a window that has a pixel of some class in it, if it need not leave the image for that."""
    counts = np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    present = np.flatnonzero(counts)
    if not present.size:
        return rng.uniform(*origins)
    places = np.flatnonzero(labels == rng.choice(present))
    y, x = divmod(int(rng.choice(places)), labels.shape[1])
    seen = apply(matrix, np.array([[x + 0.5, y + 0.5]]))[0]
    # Somewhere in the window, not always in its middle.
    origin = seen - rng.random(2) * (crop[1], crop[0])
    inside: npt.NDArray[np.float64] = np.clip(origin, *origins)
    return inside


def _largest_share(labels: Pixels, placement: Placement, crop: tuple[int, int]) -> float:
    """Return which part of the known pixels of the window has the most frequent class, 0..1; 1 if none is known."""
    small = np.full((-(-crop[0] // _COARSE), -(-crop[1] // _COARSE)), IGNORE_INDEX, np.uint8)
    paint(small, labels, scale(1 / _COARSE, 1 / _COARSE) @ placement.matrix, nearest=True)
    counts = np.bincount(small.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    known = int(counts.sum())
    return float(counts.max() / known) if known else 1.0
