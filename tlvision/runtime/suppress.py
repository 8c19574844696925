"""Suppress boxes that overlap better ones, with numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def suppress(boxes: Floats, labels: Ints, iou: float, most: int) -> Ints:
    """Return the indices of the boxes that stay, in their order: (K,) int64.

    boxes:  (N, 4) x0 y0 x1 y1, best first. labels: (N,); boxes with different labels do not suppress each other.
    iou:    a box goes if its IoU with a better one that stays is above this. most: K at most.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], np.float32)
    >>> suppress(boxes, np.zeros(3, np.int64), 0.5, 10).tolist(), suppress(boxes, np.arange(3), 0.5, 10).tolist()
    ([0, 2], [0, 1, 2])
    """
    places = boxes.astype(np.float64)
    if len(places):
        # Every label has a place of its own, so that one pass serves all of them.
        places += (labels * (places.max() - places.min() + 1.0))[:, None]
    areas = (places[:, 2:] - places[:, :2]).prod(axis=1)
    kept: list[int] = []
    left = np.arange(len(places))
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(places[best, 2:], places[left, 2:]) - np.maximum(places[best, :2], places[left, :2])
        shared = sides.clip(min=0).prod(axis=1)
        left = left[shared <= iou * (areas[best] + areas[left] - shared)]
    return np.array(kept, np.int64)


def best_first(scores: Floats, most: int) -> Ints:
    """Return the indices of the `most` highest scores, falling, equal ones in their order: (K,) int64.

    >>> best_first(np.array([0.1, 0.5, 0.5], np.float32), 2).tolist()
    [1, 2]
    """
    if len(scores) <= most:
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - most)[len(scores) - most]
    chosen = np.flatnonzero(scores >= least)
    return chosen[np.argsort(-scores[chosen], kind="stable")][:most]


def best_of_each(scores: Floats, groups: Ints, most: int) -> Ints:
    """Return the indices of the `most` highest scores of each group, falling over all groups: (K,) int64.

    scores: (N,). groups: (N,), the number of the group of each. Equal scores stay in their order.

    >>> best_of_each(np.array([0.1, 0.5, 0.3, 0.2], np.float32), np.array([0, 1, 1, 1]), 2).tolist()
    [1, 2, 0]
    """
    order = np.argsort(-scores, kind="stable")
    by_group = order[np.argsort(groups[order], kind="stable")]  # each group together, best first
    _, firsts, counts = np.unique(groups[by_group], return_index=True, return_counts=True)
    place = np.arange(len(scores)) - np.repeat(firsts, counts)  # of each in its group
    kept = np.zeros(len(scores), bool)
    kept[by_group[place < most]] = True
    return order[kept[order]]


def floor_of(score_floor: float, least: float) -> np.float32:
    """Return the number that a score must exceed to be above `score_floor`, and `least` or more.

    >>> bool(np.float32(0.3) > floor_of(0.001, 0.3)), bool(np.float32(0.001) > floor_of(0.001, 0.0))
    (True, False)
    """
    # In the precision of the scores: the number before `least` in a higher one is `least` itself there.
    return max(np.float32(score_floor), np.nextafter(np.float32(least), np.float32(-1)))


def clip(boxes: Floats, size: tuple[int, int]) -> Floats:
    """Return (N, 4) boxes cut to an image of `size` (height, width)."""
    limit = np.array([size[1], size[0], size[1], size[0]], np.float32)
    cut: Floats = np.minimum(np.maximum(boxes, np.float32(0)), limit)
    return cut
