"""Images that cannot be decoded, that show the same, or that differ between training and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tlvision.analysis.doctor.findings import Finding, Part, file_of
from tlvision.analysis.near_duplicates import image_hashes, near_pairs
from tlvision.data.images import read_image
from tlvision.types import InputError, Sample, counted

SHIFT = 1.0
"""Difference of the mean brightness, or of the logarithm of the size, in standard deviations of the training images."""
_THREADS = 4
_DIVIDED = ({"train", "val"}, {"train", "source_val"})
"""Parts that must not share an image."""


def pictures(parts: Sequence[Part]) -> list[Finding]:
    """Decode every image, and return what is wrong with them."""
    everything = [(part, sample) for part in parts for sample in part.data.samples]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda pair: _brightness(pair[1]), everything))
    damaged = [
        part.place(sample) for (part, sample), value in zip(everything, found, strict=True) if isinstance(value, str)
    ]
    findings = []
    if damaged:
        first = next(value for value in found if isinstance(value, str))
        sentence = f"{counted(len(damaged), 'image')} cannot be decoded ({first})"
        findings.append(Finding("error", "images", sentence, tuple(damaged)))
    readable = [
        (part, sample, value)
        for (part, sample), value in zip(everything, found, strict=True)
        if not isinstance(value, str)
    ]
    return findings + near_duplicates([(part, sample) for part, sample, _ in readable]) + _shift(readable)


def near_duplicates(images: Sequence[tuple[Part, Sample]]) -> list[Finding]:
    """Return pairs of images that show the same: between training and evaluation, and within a part."""
    pairs = near_pairs(image_hashes([sample.path for _, sample in images])) if images else np.zeros((0, 2), np.int64)
    across: list[dict[str, Any]] = []
    within: list[dict[str, Any]] = []
    for one, other in pairs.tolist():
        (part, sample), (second, again) = images[one], images[other]
        if sample.path.resolve() == again.path.resolve():
            continue  # one file in two parts, such as an oracle's
        name = file_of(second, again)
        place = part.place(sample, other=name if second is part else f"{second.name}/{name}")
        (across if {part.name, second.name} in _DIVIDED else within).append(place)
    findings = []
    if across:
        sentence = f"{counted(len(across), 'pair')} of training and validation images that show the same"
        findings.append(Finding("warning", "near_duplicates", sentence, tuple(across)))
    if within:
        sentence = f"{counted(len(within), 'pair')} of images that show the same"
        findings.append(Finding("note", "near_duplicates", sentence, tuple(within)))
    return findings


def _brightness(sample: Sample) -> float | str:
    """Return the mean value of an image, 0..255; a sentence if it cannot be decoded."""
    try:
        pixels, _ = read_image(
            sample.path, sample.width, sample.height, sample.exif, min_size=(64, 64), bits=sample.bits
        )
    except InputError as error:
        return str(error)
    return float(pixels.mean())


def _shift(images: Sequence[tuple[Part, Sample, float]]) -> list[Finding]:
    """Return how validation images differ from training images in brightness and in size."""
    findings = []
    measures: dict[str, Callable[[Sample, float], float]] = {
        "brightness": lambda sample, value: value,
        "number of pixels (logarithm)": lambda sample, value: float(np.log(sample.width * sample.height)),
    }
    for name, measure in measures.items():
        values: dict[str, list[float]] = {}
        for part, sample, value in images:
            values.setdefault(part.name, []).append(measure(sample, value))
        train = np.array(values.get("train", []))
        for other in ("val", "source_val"):
            if len(train) < 2 or other not in values:
                continue
            gap = float(np.mean(values[other]) - train.mean())
            spread = max(float(train.std()), 1e-6 + 0.01 * abs(float(train.mean())))
            if abs(gap) > SHIFT * spread:
                sentence = (
                    f"data.{other} differs from data.train in {name}: mean {np.mean(values[other]):.1f} against "
                    f"{train.mean():.1f}, {abs(gap) / spread:.1f} standard deviations"
                )
                findings.append(Finding("warning", "shift", sentence))
    return findings
