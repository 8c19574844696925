"""Read many polygons at once, which takes a tenth of the time of one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.formats.coco.rle import LONGEST_OUTLINE
from tlvision.formats.coco.rules import LIMIT
from tlvision.types import Polygons

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def plain_polygons(values: Sequence[Any]) -> list[Polygons | None]:
    """Return the polygons of each segmentation in a json; None where it has to be looked at on its own.

    values: of the key "segmentation". None are run lengths, and whatever `parse_segmentation` may refuse.
    """
    result: list[Polygons | None] = [None] * len(values)
    rows = [number for number, value in enumerate(values) if _is_listed(value)]
    parts = [part for number in rows for part in values[number]]
    flat = _numbers(parts)
    if flat is None:
        return result
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    starts = np.cumsum(lengths) - lengths
    size = np.abs(flat)
    finite = size < LIMIT  # nan is not
    highest = np.maximum.reduceat(np.where(finite, size, np.inf), starts)
    sound = highest * lengths < LONGEST_OUTLINE  # an outline is at most that long
    points = np.where(finite, flat, 0.0).astype(np.float32).reshape(-1, 2)
    pieces = [
        points[start : start + count]
        for start, count in zip((starts // 2).tolist(), (lengths // 2).tolist(), strict=True)
    ]
    flags, last = sound.tolist(), 0
    for number in rows:
        first, last = last, last + len(values[number])
        if all(flags[first:last]):
            result[number] = tuple(pieces[first:last])
    return result


def _is_listed(value: Any) -> bool:
    """Return whether a segmentation is a list of polygons of three points or more, whatever their numbers are."""
    if type(value) is not list or not value:
        return False
    for part in value:  # noqa: SIM110, a generator takes twice the time
        if type(part) is not list or len(part) < 6 or len(part) % 2:
            return False
    return True


def _numbers(parts: Sequence[list[Any]]) -> Floats | None:
    """Return all coordinates in one array, None if there are none or one is no number of a float's range."""
    if not parts or not {*map(type, chain.from_iterable(parts))} <= {int, float}:
        return None
    try:
        return np.fromiter(chain.from_iterable(parts), np.float64)
    except OverflowError:
        return None


def surely_drawn(polygons: Sequence[npt.NDArray[np.float32]], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return (N,) whether a polygon has a pixel for sure: it lies in its image, and is wide enough.

    sizes: (N, 2), width and height of the image of each polygon, in pixels.

    A polygon that does not cross itself holds a circle whose radius is its area divided by its perimeter.

    >>> square, line = np.array([[0, 0], [9, 0], [9, 9], [0, 9]]), np.array([[0, 0], [9, 9], [0, 0]])
    >>> surely_drawn([square, line], np.array([[20, 20], [20, 20]])).tolist()
    [True, False]
    """
    counts = np.fromiter(map(len, polygons), np.int64, len(polygons))
    starts = np.cumsum(counts) - counts
    points = np.concatenate(polygons).astype(np.float64)
    following = np.arange(1, len(points) + 1)
    following[starts + counts - 1] = starts
    step = points[following] - points
    twice = np.add.reduceat(points[:, 0] * step[:, 1] - points[:, 1] * step[:, 0], starts)
    length = np.add.reduceat(np.hypot(step[:, 0], step[:, 1]), starts)
    inside = (np.minimum.reduceat(points, starts) >= 0) & (np.maximum.reduceat(points, starts) <= sizes)
    found: npt.NDArray[np.bool_] = inside.all(axis=1) & (np.abs(twice) / 2 > 1.5 * length)
    return found
