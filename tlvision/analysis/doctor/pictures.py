"""Images that cannot be decoded, that show the same, or that differ between training and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlvision.analysis.doctor.findings import Finding, Part, file_of
from tlvision.analysis.doctor.image_measures import Measured
from tlvision.analysis.near_duplicates import image_hashes, near_pairs
from tlvision.types import Sample, counted

SHIFT = 1.0
"""Difference of the mean brightness, or of the logarithm of the size, in standard deviations of the training images."""
_DIVIDED = ({"train", "val"}, {"train", "source_val"})
"""Parts that must not share an image."""


def pictures(images: Sequence[Measured]) -> list[Finding]:
    """Return which images cannot be decoded, show the same, or differ between training and validation."""
    damaged = [image for image in images if image.problem]
    findings = []
    if damaged:
        sentence = f"{counted(len(damaged), 'image')} cannot be decoded ({damaged[0].problem})"
        places = tuple(image.part.place(image.sample) for image in damaged)
        findings.append(Finding("error", "images", sentence, places))
    fine = [image for image in images if not image.problem]
    return findings + near_duplicates([(image.part, image.sample) for image in fine]) + _shift(fine)


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


def _shift(images: Sequence[Measured]) -> list[Finding]:
    """Return how validation images differ from training images in brightness and in size."""
    findings = []
    measures: dict[str, Callable[[Measured], float]] = {
        "brightness": lambda image: image.brightness,
        "number of pixels (logarithm)": lambda image: float(np.log(image.sample.width * image.sample.height)),
    }
    for name, measure in measures.items():
        values: dict[str, list[float]] = {}
        for image in images:
            values.setdefault(image.part.name, []).append(measure(image))
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
