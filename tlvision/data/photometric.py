"""Change the look of a training image as cameras, compression and light do; nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from tlvision.data.strong_view import erase
from tlvision.types import Pixels

if TYPE_CHECKING:
    from tlvision.data.settings import AugmentSettings

_SIGMA = 0.3, 2.0
_NOISE = 2.0, 13.0
_QUALITY = 30, 90
_GAMMA = 0.6, 1.6
_CLIP = 1.0, 4.0
_MOST_RECTANGLES = 3


def uses_photometric(settings: AugmentSettings) -> bool:
    """Return whether any of the changes here is on."""
    return any((settings.gamma, settings.clahe, settings.blur, settings.noise, settings.jpeg, settings.cutout))


def photometric(rng: np.random.Generator, settings: AugmentSettings, image: Pixels) -> Pixels:
    """Return a changed image, (H, W, 3) uint8 RGB, a new array if anything was changed.

    Light first, then optics, sensor and file: gamma, CLAHE, Gaussian blur, noise, JPEG; erased rectangles come last.
    The generator advances equally for all settings, so that switching one off leaves the others as they were.
    """
    gamma, clahe, blur, noise, jpeg, cutout = rng.random(6)
    strength = rng.random(6)
    rectangles = rng.random((_MOST_RECTANGLES, 4))
    if gamma < settings.gamma:
        levels = np.linspace(0, 1, 256) ** (_GAMMA[0] * (_GAMMA[1] / _GAMMA[0]) ** strength[0])
        image = np.asarray(cv2.LUT(image, (255 * levels).round().astype(np.uint8)), np.uint8)
    if clahe < settings.clahe:
        image = _equalise(image, _between(_CLIP, strength[1]))
    if blur < settings.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), _between(_SIGMA, strength[2])), np.uint8)
    if noise < settings.noise:
        # From a generator of its own, because the number of draws depends on the size.
        other = np.random.default_rng(int(strength[3] * 2**32))
        noisy = image + other.standard_normal(image.shape, np.float32) * _between(_NOISE, strength[3])
        image = noisy.clip(0, 255).astype(np.uint8)
    if jpeg < settings.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, round(_between(_QUALITY, strength[4]))]
        _, data = cv2.imencode(".jpg", image[..., ::-1], quality)  # OpenCV's order is BGR
        image = np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
    if cutout < settings.cutout:
        image = image.copy()
        erase(image, rectangles[: 1 + int(strength[5] * _MOST_RECTANGLES)])
    return image


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])


def _equalise(image: Pixels, clip: float) -> Pixels:
    """Equalise the local contrast of the lightness (Zuiderveld 1994, CLAHE), in 8 x 8 tiles."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip, (8, 8)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
