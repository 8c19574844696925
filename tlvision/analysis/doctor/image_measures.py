"""Cheap measures of every image: format, size, brightness, frame; decoded once for all checks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tlvision.analysis.doctor.findings import Part
from tlvision.data.images import read_image
from tlvision.types import InputError, Pixels, Sample

SIDE = 64
"""Pixels of the small grey picture."""
_DECODED = 256
_FLAT = 4.0
"""Standard deviation of the grey values of a row or column that has one colour, JPEG noise included."""
_THREADS = 4
_MEAN_TABLE = 57.625
"""Mean of libjpeg's luminance table, at quality 50."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measures of one image.

    problem:    why it cannot be decoded; empty if it can, and only then the other fields hold.
    brightness: mean, contrast: standard deviation of the grey values, 0..255.
    frame:      width of a frame of one colour on at least two opposite sides, share of the side, 0..0.5.
    binary:     share of the pixels within 16 of black or white, 0..1.
    quality:    of a JPEG, estimated from its quantisation table, 1..100; nan for other formats.
    small:      (SIDE, SIDE) uint8 grey picture.
    """

    part: Part
    sample: Sample
    problem: str = ""
    brightness: float = 0.0
    contrast: float = 0.0
    frame: float = 0.0
    binary: float = 0.0
    quality: float = float("nan")
    small: Pixels | None = None


def measure_images(parts: Sequence[Part]) -> list[Measured]:
    """Decode every image of the datasets once, and return its measures, in their order."""
    everything = [(part, sample) for part in parts for sample in part.data.samples]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda pair: _measure(*pair), everything))


def jpeg_quality(path: Path) -> float:
    """Return the quality of a JPEG, 1..100, as libjpeg counts it; nan for other files.

    The tables of libjpeg are those of quality 50, times a factor that depends on the quality.
    """
    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return float("nan")
    if not tables:
        return float("nan")
    scale = 100 * float(np.mean(tables[min(tables)])) / _MEAN_TABLE
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return float(np.clip(quality, 1, 100))


def frame_width(grey: Pixels) -> float:
    """Return the width of a frame of one colour on at least two opposite sides, as a share of the side.

    grey: (H, W) uint8.

    >>> image = np.random.default_rng(0).integers(0, 255, (100, 100), np.uint8)
    >>> image[:10] = image[-10:] = 7
    >>> frame_width(image), frame_width(image[:50])
    (0.1, 0.0)
    """
    shares = []
    for pixels in (grey, grey.T):
        flat = pixels.std(1) < _FLAT
        first, last = _run(flat), _run(flat[::-1])
        same = abs(float(pixels[0].mean()) - float(pixels[-1].mean())) < 2 * _FLAT
        shares.append(min(first, last) / len(flat) if same and first < len(flat) else 0.0)
    return float(max(shares))


def _run(flags: npt.NDArray[np.bool_]) -> int:
    """Return how many flags are set before the first that is not."""
    return len(flags) if flags.all() else int(np.argmin(flags))


def _measure(part: Part, sample: Sample) -> Measured:
    try:
        pixels, _ = read_image(
            sample.path, sample.width, sample.height, sample.exif, min_size=(_DECODED, _DECODED), bits=sample.bits
        )
    except InputError as error:
        return Measured(part, sample, problem=str(error))
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return Measured(
        part,
        sample,
        brightness=float(pixels.mean()),
        contrast=float(grey.std()),
        frame=frame_width(grey),
        binary=float(((grey < 16) | (grey > 239)).mean()),
        quality=jpeg_quality(sample.path),
        small=np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8),
    )
