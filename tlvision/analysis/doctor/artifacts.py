"""Features of image files that give a class, or the part of the dataset, away: frames, size, format, quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.association import association
from tlvision.analysis.doctor.findings import Finding
from tlvision.analysis.doctor.image_measures import Measured

MIN_IMAGES = 10
"""With and without a class, or in a part."""
TECHNICAL, CONTENT = 0.8, 0.95
"""AUC from which a feature is reported: one of the file, which nothing in the scene explains, and one of the scene."""
SIGNIFICANT = 0.01

Floats = npt.NDArray[np.float64]
FEATURES: Mapping[str, tuple[Callable[[Measured], float], float]] = {
    "width": (lambda image: image.sample.width, TECHNICAL),
    "height": (lambda image: image.sample.height, TECHNICAL),
    "width / height": (lambda image: image.sample.width / image.sample.height, TECHNICAL),
    "JPEG quality": (lambda image: image.quality, TECHNICAL),
    "width of a frame of one colour": (lambda image: image.frame, TECHNICAL),
    "brightness": (lambda image: image.brightness, CONTENT),
    "contrast": (lambda image: image.contrast, CONTENT),
}
"""Name -> measure, and the AUC from which it is reported. File types are added, one feature each."""


def artifacts(images: Sequence[Measured], present: npt.NDArray[np.bool_] | None) -> list[Finding]:
    """Return features by which a class can be told in data.train, and training images from validation images.

    images:  measures of all images that can be decoded.
    present: (N, C) whether each of those of data.train has a class; None without data.train.
    """
    findings = []
    train = [image for image in images if image.part.name == "train"]
    if train and present is not None:
        names = train[0].part.data.classes.names
        counts = present.sum(0)
        enough = np.flatnonzero((counts >= MIN_IMAGES) & (len(train) - counts >= MIN_IMAGES))
        findings += _of_classes(train, [names[index] for index in enough], present[:, enough])
    for other in ("val", "source_val"):
        both = [image for image in images if image.part.name in ("train", other)]
        held = np.array([image.part.name == other for image in both], bool)
        if min(held.sum(), (~held).sum()) >= MIN_IMAGES:
            findings += _of_parts(both, other, held)
    return findings


def _of_classes(images: Sequence[Measured], names: Sequence[str], outcomes: npt.NDArray[np.bool_]) -> list[Finding]:
    findings = []
    for name, feature, auc, values in _strong(images, names, outcomes):
        row = outcomes[:, names.index(name)]
        sentence = (
            f"data.train: images with '{name}' can be told by their {feature} (AUC {auc:.2f}, median "
            f"{np.median(values[row]):.3g} against {np.median(values[~row]):.3g} without), so a model may learn that "
            "instead of the object"
        )
        findings.append(Finding("warning", "artifacts", sentence, _places(images, values, row, auc)))
    return findings


def _of_parts(images: Sequence[Measured], other: str, held: npt.NDArray[np.bool_]) -> list[Finding]:
    findings = []
    for _, feature, auc, values in _strong(images, [other], held[:, None]):
        if feature in ("brightness", "contrast", "width", "height"):
            continue  # a shift, which is reported as such
        sentence = (
            f"data.{other} differs from data.train in {feature} (AUC {auc:.2f}, median {np.median(values[held]):.3g} "
            f"against {np.median(values[~held]):.3g})"
        )
        findings.append(Finding("warning", "artifacts", sentence, _places(images, values, held, auc)))
    return findings


def _strong(
    images: Sequence[Measured], names: Sequence[str], outcomes: npt.NDArray[np.bool_]
) -> list[tuple[str, str, float, Floats]]:
    """Return outcome, feature, AUC and values of each strong and significant association."""
    features = _features(images)
    if not names or not features:
        return []
    auc, p = association(np.stack([values for values, _ in features.values()], 1), outcomes)
    found = []
    for row, name in enumerate(names):
        for column, (feature, (values, least)) in enumerate(features.items()):
            value = float(auc[row, column])
            if max(value, 1 - value) >= least and p[row, column] <= SIGNIFICANT:
                found.append((name, feature, value, values))
    return found


def _features(images: Sequence[Measured]) -> dict[str, tuple[Floats, float]]:
    """Return the features that are not equal in all images: values (N,), and the AUC from which each is reported."""
    found = {
        name: (np.array([float(measure(one)) for one in images]), least) for name, (measure, least) in FEATURES.items()
    }
    suffixes = [image.sample.path.suffix.lower() for image in images]
    for suffix in sorted(set(suffixes)):
        found[f"file type {suffix}"] = np.array([float(each == suffix) for each in suffixes]), TECHNICAL
    # Other formats have no JPEG quality; that they are no JPEG is a feature of its own.
    return {
        name: (np.where(np.isnan(values), np.nanmedian(values), values), least)
        for name, (values, least) in found.items()
        if not np.isnan(values).all() and np.nanmax(values) > np.nanmin(values)
    }


def _places(
    images: Sequence[Measured], values: Floats, row: npt.NDArray[np.bool_], auc: float
) -> tuple[dict[str, object], ...]:
    """Return the images with the outcome, those in which the feature is clearest first."""
    chosen = np.flatnonzero(row)
    order = chosen[np.argsort(-values[chosen] if auc > 0.5 else values[chosen], kind="stable")]
    return tuple(images[index].part.place(images[index].sample) for index in order.tolist())
