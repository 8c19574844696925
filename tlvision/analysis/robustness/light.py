"""Corruptions by light and sensor: brightness, darkness, contrast, noise, JPEG.

Every function takes an image (H, W, 3) uint8 RGB, its strength (`tlvision.analysis.robustness.severities`) and a
generator, and returns a new image of that shape. The image is not changed.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.types import Pixels, RunError

Floats = npt.NDArray[np.float32]


def brightness(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Add `strength` (0..1) to the value of HSV: overexposure.

    >>> brightness(np.full((1, 1, 3), 100, np.uint8), 0.2, np.random.default_rng(0)).tolist()
    [[[151, 151, 151]]]
    """
    hsv = cv2.cvtColor(_unit(image), cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.minimum(hsv[..., 2] + strength, 1)
    return to_pixels(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32))


def darkness(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Multiply every pixel by `strength` (0..1): underexposure, with the loss of levels that 8 bits bring."""
    return to_pixels(_unit(image) * np.float32(strength))


def contrast(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Multiply the distance of every pixel to the mean colour of the image by `strength` (0..1)."""
    pixels = _unit(image)
    mean = pixels.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)  # (3,)
    return to_pixels((pixels - mean) * np.float32(strength) + mean)


def gaussian_noise(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Add normal noise with the standard deviation `strength` (of a range of 1) to every value."""
    noise = rng.standard_normal(image.shape, np.float32)
    return to_pixels(_unit(image) + noise * np.float32(strength))


def shot_noise(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Draw every value from a Poisson distribution; white has `strength` photons on average."""
    photons = rng.poisson(_unit(image).astype(np.float64) * strength)
    return to_pixels((photons / strength).astype(np.float32))


def jpeg(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Write and read the image as a JPEG of quality `strength` (1..100)."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
    if not done:
        raise RunError(f"stress: OpenCV cannot write a JPEG of {image.shape[1]} x {image.shape[0]} pixels")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def to_pixels(values: Floats) -> Pixels:
    """Return values 0..1 as the nearest levels, values beyond as black and white."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _unit(image: Pixels) -> Floats:
    return image.astype(np.float32) / np.float32(255)
