"""Mean class IoU of semantic label maps and its kin, from one confusion matrix over all pixels.

Sources: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.4 (intersection over union of
a class over the pixels of all images together, then the mean over classes); Long et al., Fully Convolutional Networks
for Semantic Segmentation, 2015, section 5 (pixel accuracy, mean accuracy, frequency weighted IoU). Dice is
2 I / (|truth| + |prediction|). Boundary IoU: see `tlvision.evaluation.boundary_iou`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.boundary_iou import DISTANCE, boundary_counts
from tlvision.evaluation.confusion import Counts, LabelMap, confusion
from tlvision.evaluation.protocol import protocol_hash
from tlvision.types import IGNORE_INDEX, InputError

Fractions = list[float | None]


def class_iou(
    pairs: Iterable[tuple[LabelMap, LabelMap]], names: Sequence[str], *, boundary: bool = False
) -> dict[str, Any]:
    """Compute IoU, Dice and accuracy of each class, and their means.

    pairs:    (ground truth, prediction) per image, both (H, W) of any integer dtype, class index per pixel. Pixels
              whose ground truth is IGNORE_INDEX (255) are not counted, whatever the prediction.
    names:    the classes in the order of the index, at most 255.
    boundary: whether to compute boundary IoU as well, which takes longer than all the rest.

    Returns a dict for a JSON file; each metric is in 0..1, or None if there is nothing to measure:
        task:           "semantic"
        protocol:       the definition of the metrics, with its `hash`
        semantic:       mean_class_iou, mean_class_dice, mean_class_accuracy, mean_class_boundary_iou (if asked for),
                        each over the classes with ground truth, pixel_accuracy, frequency_weighted_iou; all None if
                        only one of several classes has ground truth
        per_class:      {name: {iou, dice, accuracy, boundary_iou (if asked for), ground_truths, predictions}}, the
                        latter two in pixels
        absent_classes: names without a pixel of ground truth; nothing is measured of them, and they are left out of the
                        means (mmsegmentation counts 0 for one that is predicted somewhere)
        counts:         images, pixels (those that count), ignored

    Raises InputError that names the pair where shapes differ, the dtype is no integer or a value is no class, and
    where there is no pair at all.

    >>> truth, prediction = np.array([[0, 0], [1, 255]]), np.array([[0, 1], [1, 0]])
    >>> class_iou([(truth, prediction)], ["road", "car"])["semantic"]["mean_class_iou"]
    0.5
    """
    if not 0 < len(names) <= IGNORE_INDEX:
        raise InputError(f"class_iou: expected 1 to {IGNORE_INDEX} class names, got {len(names)}")
    matrix = np.zeros((len(names), len(names)), np.int64)
    edges = np.zeros((len(names), 2), np.int64)
    images = all_pixels = 0
    for index, (truth, prediction) in enumerate(pairs):
        matrix += confusion(truth, prediction, len(names), f"pair {index}")
        if boundary:
            edges += boundary_counts(truth, prediction, len(names))
        all_pixels += truth.size
        images += 1
    if images == 0:
        raise InputError("class_iou: expected at least one pair of label maps, got none")
    return metrics_of(matrix, names, images, all_pixels, edges if boundary else None)


def metrics_of(
    matrix: Counts, names: Sequence[str], images: int, all_pixels: int, edges: Counts | None
) -> dict[str, Any]:
    """Return what `class_iou` returns, from the sums over all images.

    matrix: (classes, classes) int64, true class by predicted class. all_pixels: those that are ignored included.
    edges:  None, or (classes, 2) int64, intersection and union of the boundary regions.
    """
    hits, truths, predictions = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    columns: dict[str, Fractions] = {
        "iou": _divide(hits, truths + predictions - hits),
        "dice": _divide(2 * hits, truths + predictions),
        "accuracy": _divide(hits, truths),
    }
    if edges is not None:
        columns["boundary_iou"] = _divide(edges[:, 0], edges[:, 1])
    pixels = int(matrix.sum())
    fields = {"metric": "class IoU", "ignore_index": IGNORE_INDEX, "classes": "mean over classes with ground truth"}
    if edges is not None:
        fields["boundary"] = f"{DISTANCE} of the diagonal"
    # What is predicted of a class that the ground truth does not have is counted as missed in the classes that it has.
    columns = {
        name: [value if count else None for value, count in zip(values, truths, strict=True)]
        for name, values in columns.items()
    }
    semantic = {f"mean_class_{name}": _mean(values) for name, values in columns.items()}
    semantic["pixel_accuracy"] = int(hits.sum()) / pixels if pixels else None
    weighted = [int(count) * (iou or 0.0) for count, iou in zip(truths, columns["iou"], strict=True)]
    semantic["frequency_weighted_iou"] = sum(weighted) / pixels if pixels else None
    if np.count_nonzero(truths) < 2:  # whoever predicts the one class everywhere would be perfect
        semantic = dict.fromkeys(semantic)
    return {
        "task": "semantic",
        "protocol": {**fields, "hash": protocol_hash(fields)},
        "semantic": semantic,
        "per_class": {
            name: {
                **{column: values[k] for column, values in columns.items()},
                "ground_truths": int(truths[k]),
                "predictions": int(predictions[k]),
            }
            for k, name in enumerate(names)
        },
        "absent_classes": [name for name, count in zip(names, truths, strict=True) if not count],
        "counts": {"images": images, "pixels": pixels, "ignored": all_pixels - pixels},
    }


def _divide(parts: npt.NDArray[np.int64], wholes: npt.NDArray[np.int64]) -> Fractions:
    return [int(part) / int(whole) if whole else None for part, whole in zip(parts, wholes, strict=True)]


def _mean(values: Fractions) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
