"""Classes of label maps with few pixels, and thin ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.formats.label_maps import read_label_map
from tlvision.types import IGNORE_INDEX, InputError, Sample, listing

RARE = 0.02
"""Share of the labelled pixels."""
THIN = 0.6
"""Share of the pixels of a class that lie within two pixels of its border."""


def presence(part: Part, samples: Sequence[Sample]) -> npt.NDArray[np.bool_]:
    """Return (N, C) whether each sample has an object, or pixels, of each class; crowd regions do not count."""
    found = np.zeros((len(samples), len(part.data.classes)), bool)
    for row, sample in zip(found, samples, strict=True):
        labels = sample.target.labels[~sample.target.crowd] if sample.label_map is None else _labels(sample)
        row[labels] = True
    return found


def rare_pixels(parts: Sequence[Part]) -> list[Finding]:
    """Return classes of data.train with few pixels, and rare classes that are thin."""
    train = next((part for part in parts if part.name == "train" and hasattr(part.data, "pixels")), None)
    if train is None:
        return []
    names = train.data.classes.names
    pixels: npt.NDArray[np.int64] = getattr(train.data, "pixels")  # noqa: B009
    shares = pixels / max(int(pixels.sum()), 1)
    rare = {names[index]: float(shares[index]) for index in np.flatnonzero((shares > 0) & (shares < RARE)).tolist()}
    if not rare:
        return []
    most = names[int(shares.argmax())]
    shown = [f"{name} {share:.2%}" for name, share in sorted(rare.items(), key=lambda item: item[1])]
    sentence = (
        f"data.train: classes with less than {RARE:.0%} of the labelled pixels: {listing(shown)}; '{most}' has "
        f"{shares.max():.0%}"
    )
    findings = [Finding("note", "pixel_balance", sentence)]
    thin = thin_classes(train.data.samples, {names.index(name): name for name in rare})
    if thin:
        shown = [f"{name} {share:.0%}" for name, share in sorted(thin.items(), key=lambda item: -item[1])]
        sentence = (
            f"data.train: thin classes, with most pixels within 2 px of their border: {listing(shown)}. A smaller "
            "data.image_size makes them vanish, and class IoU depends on a pixel more or less (evaluate.boundary)"
        )
        findings.append(Finding("note", "pixel_balance", sentence))
    return findings


def thin_classes(samples: Sequence[Sample], classes: Mapping[int, str]) -> dict[str, float]:
    """Return the share of pixels within two pixels of the border of each thin class, by its name."""
    total, inner = dict.fromkeys(classes, 0), dict.fromkeys(classes, 0)
    kernel = np.ones((5, 5), np.uint8)
    for sample in samples:
        if sample.label_map is None:
            continue
        labels = read_label_map(sample.label_map)
        for index in classes:
            mask = (labels == index).astype(np.uint8)
            total[index] += int(mask.sum())
            inner[index] += int(cv2.erode(mask, kernel).sum())
    shares = {index: 1 - inner[index] / total[index] for index in classes if total[index]}
    return {classes[index]: share for index, share in shares.items() if share >= THIN}


def _labels(sample: Sample) -> npt.NDArray[np.int64]:
    assert sample.label_map is not None
    try:
        found = np.unique(read_label_map(sample.label_map)).astype(np.int64)
    except InputError:  # the reader has refused it
        return np.zeros(0, np.int64)
    known: npt.NDArray[np.int64] = found[found != IGNORE_INDEX]
    return known
