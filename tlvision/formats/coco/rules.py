"""Rules of the COCO format: boxes as x, y, width, height, areas, and which boxes are valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from tlvision.types.shown import shown

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def xywh_to_xyxy(boxes: FloatArray) -> npt.NDArray[np.float64]:
    """Turn COCO's x, y, width, height into corners; (M, 4) in pixels, any float dtype in, float64 out.

    >>> xywh_to_xyxy(np.array([[10.0, 20.0, 3.0, 4.0]])).tolist()
    [[10.0, 20.0, 13.0, 24.0]]
    """
    corners = np.asarray(boxes, np.float64).copy()
    corners[:, 2:] += corners[:, :2]
    return corners


def xyxy_to_xywh(boxes: FloatArray) -> npt.NDArray[np.float64]:
    """Turn corners into COCO's x, y, width, height; (M, 4) in pixels, any float dtype in, float64 out.

    >>> xyxy_to_xywh(np.array([[10.0, 20.0, 13.0, 24.0]])).tolist()
    [[10.0, 20.0, 3.0, 4.0]]
    """
    sides = np.asarray(boxes, np.float64).copy()
    sides[:, 2:] -= sides[:, :2]
    return sides


def box_area(boxes: FloatArray) -> npt.NDArray[np.float64]:
    """Return width times height of (M, 4) corner boxes, in square pixels.

    >>> box_area(np.array([[10.0, 20.0, 13.0, 24.0]])).tolist()
    [12.0]
    """
    sides = xyxy_to_xywh(boxes)
    return sides[:, 2] * sides[:, 3]


LIMIT = 1e15
"""No coordinate or area of a real file comes near it; larger values are treated as infinite."""


def as_floats(rows: Sequence[Sequence[float]], columns: int = 4) -> npt.NDArray[np.float64]:
    """Return numbers from a JSON file as (M, columns) float64, those beyond any real coordinate as infinity.

    >>> as_floats([[10**400, -5, 1, 2]]).tolist()
    [[inf, -5.0, 1.0, 2.0]]
    """
    try:
        values = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * columns).reshape(-1, columns)
    except OverflowError:
        flat = [
            [min(max(number, -(10**300)), 10**300) if type(number) is int else number for number in row] for row in rows
        ]
        values = np.array(flat, np.float64).reshape(-1, columns)
    beyond = np.abs(values) > LIMIT
    return np.where(beyond, np.copysign(np.inf, values), values) if beyond.any() else values


def crowd_problem(value: object) -> str:
    """Return the problem of an annotation's `iscrowd`; empty for 0, 1, true, false and null (which mean 0 or 1)."""
    fine = value is None or (isinstance(value, bool | int) and value in (0, 1))
    return "" if fine else f"'iscrowd' must be 0 or 1, got {shown(value, 60)}"


def area_problem(value: object) -> str:
    """Return the problem of an annotation's `area`; empty for a number >= 0, and for null (the box's area is used)."""
    if value is None or (type(value) in (int, float) and 0 <= value < LIMIT):  # type: ignore[operator]
        return ""
    return f"'area' must be a number >= 0 in square pixels, got {shown(value, 60)}; correct it or remove it"


@dataclass(frozen=True, slots=True, eq=False)
class CheckedBoxes:
    """Results of `check_boxes`; every array has one row for each box.

    corners:    (M, 4) float32, clipped to the image; meaningful only where `valid`.
    not_finite: (M,) bool, nan or infinity in it: invalid.
    empty:      (M,) bool, width or height zero or negative, or too small for float32: invalid.
    outside:    (M,) bool, nothing of it lies in the image: invalid.
    clipped:    (M,) bool, valid, but some of it lay outside the image.
    """

    corners: npt.NDArray[np.float32]
    not_finite: npt.NDArray[np.bool_]
    empty: npt.NDArray[np.bool_]
    outside: npt.NDArray[np.bool_]
    clipped: npt.NDArray[np.bool_]

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(M,) bool: the boxes that may be used."""
        return ~(self.not_finite | self.empty | self.outside)


def check_boxes(xywh: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> CheckedBoxes:
    """Judge boxes as a COCO json holds them.

    xywh:  (M, 4) float64, x, y, width, height in pixels.
    sizes: (M, 2) float64, width and height of the image that each box belongs to.

    >>> found = check_boxes(np.array([[-2.0, 0, 5, 5], [0, 0, 0, 5]]), np.array([[10.0, 10], [10, 10]]))
    >>> found.valid.tolist(), found.clipped.tolist(), found.corners[0].tolist()
    ([True, False], [True, False], [0.0, 0.0, 3.0, 5.0])
    """
    not_finite: npt.NDArray[np.bool_] = np.logical_not(np.isfinite(xywh).all(axis=1))
    corners = xywh_to_xyxy(np.where(not_finite[:, None], 0.0, xywh))
    empty = ~not_finite & ((xywh[:, 2] <= 0) | (xywh[:, 3] <= 0))
    limits = np.concatenate([sizes, sizes], axis=1)
    inside = np.clip(corners, 0.0, limits)
    # Judged in the type that is kept: at x = 4000, float32 cannot tell a width of 1e-4 from none.
    kept = inside.astype(np.float32)
    flat = (kept[:, 2] <= kept[:, 0]) | (kept[:, 3] <= kept[:, 1])
    beyond = (corners[:, :2] >= sizes).any(axis=1) | (corners[:, 2:] <= 0).any(axis=1)
    outside = ~not_finite & ~empty & beyond
    empty |= ~not_finite & flat & ~beyond
    clipped: npt.NDArray[np.bool_] = ~(not_finite | empty | outside) & (inside != corners).any(axis=1)
    return CheckedBoxes(kept, not_finite, empty, outside, clipped)
