"""Mean class IoU of semantic label maps, from one confusion matrix over all pixels.

Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.4 (intersection over union of
a class over the pixels of all images together, then the mean over classes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.protocol import protocol_hash
from tlvision.types import IGNORE_INDEX, InputError, listing

LabelMap = npt.NDArray[np.integer[Any]]


def class_iou(pairs: Iterable[tuple[LabelMap, LabelMap]], names: Sequence[str]) -> dict[str, Any]:
    """Compute the IoU of each class, their mean and the pixel accuracy.

    pairs: (ground truth, prediction) per image, both (H, W) of any integer dtype, class index per pixel. Pixels whose
           ground truth is IGNORE_INDEX (255) count nowhere, whatever was predicted there.
    names: the classes in the order of the index, at most 255.

    Returns a dict for a JSON file; each metric is in 0..1, or None where there is nothing to measure:
        task:           "semantic"
        protocol:       what was computed, with its `hash`
        semantic:       mean_class_iou, pixel_accuracy
        per_class:      {name: {iou, ground_truths, predictions}}, the latter two in pixels
        absent_classes: names in neither ground truth nor predictions; they are left out of the mean
        counts:         images, pixels (those that count), ignored

    Raises InputError that names the pair where shapes differ, the dtype is no integer or a value is no class, and
    where there is no pair at all.

    >>> truth, prediction = np.array([[0, 0], [1, 255]]), np.array([[0, 1], [1, 0]])
    >>> class_iou([(truth, prediction)], ["road", "car"])["semantic"]
    {'mean_class_iou': 0.5, 'pixel_accuracy': 0.6666666666666666}
    """
    if not 0 < len(names) <= IGNORE_INDEX:
        raise InputError(f"class_iou: expected 1 to {IGNORE_INDEX} class names, got {len(names)}")
    matrix = np.zeros((len(names), len(names)), np.int64)
    images = ignored = 0
    for index, (truth, prediction) in enumerate(pairs):
        matrix += confusion(truth, prediction, len(names), f"pair {index}")
        ignored += int((truth == IGNORE_INDEX).sum())
        images += 1
    if images == 0:
        raise InputError("class_iou: expected at least one pair of label maps, got none")
    iou = _iou(matrix)
    present = [value for value in iou if value is not None]
    pixels = int(matrix.sum())
    fields = {"metric": "class IoU", "ignore_index": IGNORE_INDEX, "classes": "mean over classes in either side"}
    return {
        "task": "semantic",
        "protocol": {**fields, "hash": protocol_hash(fields)},
        "semantic": {
            "mean_class_iou": float(np.mean(present)) if present else None,
            "pixel_accuracy": int(np.trace(matrix)) / pixels if pixels else None,
        },
        "per_class": {
            name: {"iou": iou[k], "ground_truths": int(matrix[k].sum()), "predictions": int(matrix[:, k].sum())}
            for k, name in enumerate(names)
        },
        "absent_classes": [name for name, value in zip(names, iou, strict=True) if value is None],
        "counts": {"images": images, "pixels": pixels, "ignored": ignored},
    }


def confusion(truth: LabelMap, prediction: LabelMap, classes: int, where: str = "label map") -> npt.NDArray[np.int64]:
    """Count the pixels of one image by true class (row) and predicted class (column).

    truth, prediction: (H, W) integers, 0..classes - 1; where truth is 255 the pixel is left out.

    Returns (classes, classes) int64. Raises InputError that begins with `where`; see `class_iou`.

    >>> confusion(np.array([[0, 1, 255]]), np.array([[1, 1, 0]]), 2).tolist()
    [[0, 1], [0, 1]]
    """
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise InputError(
            f"{where}: expected two (H, W) label maps of one shape, got ground truth {truth.shape} and prediction "
            f"{prediction.shape}"
        )
    for side, labels in (("ground truth", truth), ("prediction", prediction)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise InputError(f"{where}: expected integer class indices in the {side}, got dtype {labels.dtype}")
    counted = truth != IGNORE_INDEX
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for side, labels in (("ground truth", rows), ("prediction", columns)):
        outside = np.unique(labels[(labels < 0) | (labels >= classes)])
        if outside.size:
            raise InputError(
                f"{where}: the {side} has the value(s) {listing(outside)}, but the classes are 0..{classes - 1} "
                f"(and {IGNORE_INDEX} for ignored ground truth); check the class list"
            )
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def _iou(matrix: npt.NDArray[np.int64]) -> list[float | None]:
    intersection = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - intersection
    return [int(i) / int(u) if u else None for i, u in zip(intersection, union, strict=True)]
