"""The strong view of an image: changed appearance with the same geometry, so that boxes and label maps stay valid."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.data.settings import StrongView
from tlvision.types import Pixels

_SIGMA = 0.1, 2.0
_ERASED = 0.02, 0.10


def strong_view(rng: np.random.Generator, settings: StrongView, image: Pixels) -> Pixels:
    """Return a strong view of an image, a new array.

    rng:   the generator, which advances equally for all settings, so that switching one off leaves the others.
    image: (H, W, 3) uint8 RGB. The result has its shape, and each pixel shows what it showed, or nothing.
    """
    coloured, grey, blurred, erased, sigma = rng.random(5)
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4)
    rectangles = rng.random((settings.erase_count, 4))
    used = 1 + int(rng.integers(settings.erase_count))
    result = image.copy()
    if coloured < settings.colour:
        result = _recolour(
            result,
            1 + settings.brightness * brightness,
            1 + settings.contrast * contrast,
            1 + settings.saturation * saturation,
            settings.hue * hue,
        )
    if grey < settings.grey:
        result = _saturate(result, 0.0)
    if blurred < settings.blur:
        cv2.GaussianBlur(result, (0, 0), _SIGMA[0] + sigma * (_SIGMA[1] - _SIGMA[0]), dst=result)
    if erased < settings.erase:
        erase(result, rectangles[:used])
    return result


def _recolour(image: Pixels, brightness: float, contrast: float, saturation: float, hue: float) -> Pixels:
    levels = np.arange(256, dtype=np.float64) * brightness
    mean = float(image.mean()) * brightness
    table = np.clip(mean + (levels - mean) * contrast, 0, 255).astype(np.uint8)
    result = _saturate(np.asarray(cv2.LUT(image, table), np.uint8), saturation)
    if hue:
        hsv = cv2.cvtColor(result, cv2.COLOR_RGB2HSV)
        # OpenCV keeps 8-bit hue in half degrees, 0..179; the sum stays below 256.
        hsv[..., 0] = ((hsv[..., 0].astype(np.int16) + round(hue * 180)) % 180).astype(np.uint8)
        cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=result)
    return result


def _saturate(image: Pixels, factor: float) -> Pixels:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, factor, grey, 1 - factor, 0), np.uint8)


def erase(image: Pixels, rectangles: npt.NDArray[np.float64]) -> None:
    """Paint rectangles in the mean colour, in place; each row is place x, place y, area and shape, all 0..1."""
    height, width = image.shape[:2]
    colour = image.reshape(-1, 3).mean(axis=0)  # (H * W, 3)
    for x, y, area, shape in rectangles:
        share = _ERASED[0] + area * (_ERASED[1] - _ERASED[0])
        ratio = 3.0 ** (2 * shape - 1)  # from 1 : 3 to 3 : 1
        tall = max(1, min(height, round(height * float(np.sqrt(share * ratio)))))
        wide = max(1, min(width, round(width * float(np.sqrt(share / ratio)))))
        top, left = round(y * (height - tall)), round(x * (width - wide))
        image[top : top + tall, left : left + wide] = colour
