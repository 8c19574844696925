"""Labels that training accepts and that make its results worse; one sentence with a count for each kind.

`tlvision doctor` finds the same, with every place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tlvision.types import Dataset, counted, listing

CONFLICT, SAME = 0.9, 0.95
"""IoU from which two boxes of different classes, or of one class, are taken for one object."""
FEW_IMAGES = 10
IMBALANCE = 50.0

Boxes = npt.NDArray[np.float64]
Pairs = list[tuple[int, int]]


def doubtful_labels(train: Dataset, others: Sequence[Dataset] = ()) -> list[str]:
    """Return notes on contradictory labels of all datasets, and on rare classes of the training images."""
    notes = [f"{data.path.name}: {sentence}" for data in (train, *others) for sentence in _contradictions(data)]
    return notes + [f"{train.path.name}: {sentence}" for sentence in rare_classes(train)]


def same_objects(corners: Boxes, labels: Sequence[int]) -> tuple[Pairs, Pairs]:
    """Return pairs of boxes of one object with two classes, and pairs of different boxes of one object and class.

    corners: (M, 4) x0, y0, x1, y1 in pixels of one image. labels: class of each.

    >>> same_objects(np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9.9]]), [1, 2, 1])
    ([(0, 1), (1, 2)], [(0, 2)])
    """
    overlap = _iou(corners)
    close = overlap >= CONFLICT
    conflicts: Pairs = []
    repeated: Pairs = []
    if close.sum() <= len(corners):  # each box with itself, as in nearly all images
        return conflicts, repeated
    for one, other in np.argwhere(np.triu(close, 1)).tolist():
        if labels[one] != labels[other]:
            conflicts.append((one, other))
        elif overlap[one, other] >= SAME and not np.array_equal(corners[one], corners[other]):
            repeated.append((one, other))  # equal ones are reported by the reader
    return conflicts, repeated


def conflict_sentence(count: int) -> str:
    """Return a sentence on pairs of boxes of one object with two classes."""
    return f"{counted(count, 'pair')} of boxes of different classes on one object (IoU of {CONFLICT} or more)"


def repeated_sentence(count: int) -> str:
    """Return a sentence on objects with two different boxes of one class."""
    return f"{counted(count, 'object')} marked twice (IoU of {SAME} or more)"


def rare_classes(train: Dataset) -> list[str]:
    """Return sentences on classes with few training images, and on how far the most frequent is from the rarest."""
    images = dict.fromkeys(train.classes.names, 0)
    for sample in train.samples:
        for label in set(sample.target.labels[~sample.target.crowd].tolist()):
            images[train.classes.names[label]] += 1
    sentences = []
    few = {name: count for name, count in images.items() if 0 < count < FEW_IMAGES}
    if few:
        shown = [f"{name} {count}" for name, count in sorted(few.items(), key=lambda item: item[1])]
        sentences.append(f"{counted(len(few), 'class')} with fewer than {FEW_IMAGES} training images: {listing(shown)}")
    present = {name: count for name, count in images.items() if count}
    if present and max(present.values()) > IMBALANCE * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        sentences.append(f"'{most}' is in {present[most]} training images, '{least}' in {present[least]}")
    return sentences


def _contradictions(data: Dataset) -> list[str]:
    conflicts = repeated = 0
    for sample in data.samples:
        kept = ~sample.target.crowd
        if kept.sum() > 1:
            boxes = np.asarray(sample.target.boxes[kept], np.float64)
            pairs = same_objects(boxes, sample.target.labels[kept].tolist())
            conflicts, repeated = conflicts + len(pairs[0]), repeated + len(pairs[1])
    sentences = [conflict_sentence(conflicts)] if conflicts else []
    return sentences + ([repeated_sentence(repeated)] if repeated else [])


def _iou(boxes: Boxes) -> Boxes:
    """Return the IoU of each box with each other, (M, M)."""
    from faster_coco_eval import mask as rle

    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    return np.asarray(rle.iou(xywh, xywh, [0] * len(xywh)), np.float64).reshape(len(xywh), -1)
