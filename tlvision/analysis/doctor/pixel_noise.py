"""Regions of label maps that the confident predictions of a model contradict, ranked.

Source: Northcutt et al., Confident Learning, 2021, with pixels as examples: a pixel is confidently of class k if the
probability of k reaches its mean over the pixels that are labelled k. Differences: the mean is over those pixels
labelled k for which k is predicted, and regions are ranked by their share of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.findings import Part
from tlvision.engine.datasets import label_options
from tlvision.engine.model import LoadedModel
from tlvision.types import IGNORE_INDEX, InputError, Pixels

BINS = 50
"""Steps of the probability, 0..1."""
LEAST_SHARE = 0.01
"""Of the labelled pixels of an image: smaller disagreements are borders of objects."""
_BORDER = 5
"""Side in pixels of the square that a region must hold somewhere; thinner ones are borders."""


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Pixels of one image. count: (P,) of each pair and step of the probability; key: its number."""

    place: dict[str, Any]
    total: int
    key: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    boxes: dict[tuple[int, int], list[int]]


def pixel_noise(model: LoadedModel, part: Part) -> list[dict[str, Any]]:
    """Return the regions in which labels and confident predictions disagree, the largest first.

    A region is all pixels of an image that are labelled with one class and confidently predicted as another: {"part",
    "file", "label", "predicted", "score": share of the labelled pixels, "box" of its largest connected part}.

    Raises InputError if model and dataset have different classes.
    """
    from tlvision.data.dataset import EvalImages
    from tlvision.data.targets import semantic_map
    from tlvision.inference.predict import predict_confidence

    names = part.data.classes.names
    if model.classes.names != names:
        raise InputError(f"doctor: --run '{model.run}' has other classes than data.{part.name}. Give a run of these.")
    background = model.task.targets(part.data, label_options(model.config.data)).background
    images = EvalImages(part.data.samples, model.adapter.input_spec, model.config.data.image_size, cache_bytes=0)
    found = predict_confidence(
        model.adapter,
        images,
        fabric=model.fabric,
        batch_size=model.config.evaluate.batch,
        workers=0,
        window=model.config.evaluate.window,
    )
    return disagreements(
        (
            (part.place(sample), semantic_map(sample, background), predicted, confidence)
            for sample, predicted, confidence in found
        ),
        names,
    )


def disagreements(
    images: Iterable[tuple[dict[str, Any], Pixels, npt.NDArray[np.int64], npt.NDArray[np.float32]]],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the regions of `pixel_noise`.

    images: of each its place, label map, predicted label map and the probability of the prediction, all (H, W).
    names:  of the classes.
    """
    return _ranked([_counted(*image, len(names)) for image in images], names)


def _counted(
    place: dict[str, Any],
    labels: npt.NDArray[Any],
    predicted: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.float32],
    classes: int,
) -> _Counts:
    known = labels != IGNORE_INDEX
    step = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    pair = labels.astype(np.int64) * classes + predicted
    key, count = np.unique((pair * BINS + step)[known], return_counts=True)
    boxes: dict[tuple[int, int], list[int]] = {}
    total = int(known.sum())
    pairs, sizes = np.unique(pair[known], return_counts=True)
    for number, size in zip(pairs.tolist(), sizes.tolist(), strict=True):
        label, other = divmod(number, classes)
        if label != other and size >= LEAST_SHARE * total:
            box = _largest(((pair == number) & known).astype(np.uint8))
            if box is not None:
                boxes[label, other] = box
    return _Counts(place, total, key, count, boxes)


def _largest(region: Pixels) -> list[int] | None:
    """Return x, y, width and height of the largest connected part that is no border of an object, None without one."""
    thick = cv2.morphologyEx(region, cv2.MORPH_OPEN, np.ones((_BORDER, _BORDER), np.uint8))
    count, _, statistics, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    if count < 2:
        return None
    best = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    return [int(value) for value in statistics[best, :4]]


def _ranked(found: Sequence[_Counts], names: Sequence[str]) -> list[dict[str, Any]]:
    classes = len(names)
    least = _thresholds(found, classes)
    places = []
    for one in found:
        pair, step = np.divmod(one.key, BINS)
        for (label, other), box in one.boxes.items():
            sure = (pair == label * classes + other) & (step >= least[other])
            share = int(one.count[sure].sum()) / one.total
            if share >= LEAST_SHARE:
                words = {"label": names[label], "predicted": names[other]}
                places.append({**one.place, **words, "box": box, "score": round(share, 4)})
    return sorted(places, key=lambda place: -place["score"])


def _thresholds(found: Sequence[_Counts], classes: int) -> npt.NDArray[np.int64]:
    """Return (C,) the step of the mean probability of each class over its pixels that are predicted as it."""
    total = np.zeros((classes, BINS), np.int64)
    for one in found:
        pair, step = np.divmod(one.key, BINS)
        label, predicted = np.divmod(pair, classes)
        right = label == predicted
        np.add.at(total, (label[right], step[right]), one.count[right])
    pixels = total.sum(1)
    mean = np.divide(total @ np.arange(BINS), pixels, out=np.full(classes, BINS - 1.0), where=pixels > 0)
    least: npt.NDArray[np.int64] = np.floor(mean).astype(np.int64)
    return least
