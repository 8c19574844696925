"""Draw a 2-D scatter plot with one colour and marker per group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tlvision.report.chart import format_tick, nice_ticks
from tlvision.report.colours import Rgb
from tlvision.report.draw import font_for
from tlvision.types import Pixels, check_array

_WIDTH, _HEIGHT = 1200, 900
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 40, 130, 100
_SCALE = 2
"""Drawn twice as large and reduced: Pillow's circles have jagged edges."""
_TEXT, _GREY, _GRID = (30, 30, 30), (90, 90, 90), (225, 225, 225)


@dataclass(frozen=True, slots=True, eq=False)
class PointGroup:
    """One group of points.

    name:   shown in the legend.
    points: (N, 2) finite floats, x and y.
    colour: of its points.
    mark:   "disc" or "diamond", so that the groups can be distinguished without colour.
    """

    name: str
    points: npt.NDArray[np.float64]
    colour: Rgb
    mark: str = "disc"


def scatter(clouds: Sequence[PointGroup], *, title: str, x_label: str, y_label: str) -> Pixels:
    """Draw clouds of points with axes and a legend.

    clouds: at least one with a point; drawn point by point in turn, so that none hides another. All text is cut where
            it would leave the picture.

    Returns (900, 1200, 3) uint8 RGB. Raises ValueError if there is no point, or one is not finite.

    >>> scatter([PointGroup("a", np.zeros((3, 2)), (0, 0, 0))], title="t", x_label="x", y_label="y").shape
    (900, 1200, 3)
    """
    for cloud in clouds:
        check_array("scatter", cloud.name, cloud.points, ("N", 2), ("float64",))
    points = np.concatenate([cloud.points for cloud in clouds]) if clouds else np.zeros((0, 2))
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"scatter: expected finite points, at least one, got {len(points)} of which some may be nan")
    canvas = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), "white")
    pen = ImageDraw.Draw(canvas)
    frame = _Frame(points)
    _axes(pen, frame, x_label, y_label)
    _marks(pen, frame, clouds)
    _text(pen, (_LEFT, 24), title, 26, "lt")
    _legend(pen, clouds)
    return np.asarray(canvas.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS))


class _Frame:
    """From values to pixels, with equal units on both axes: distances in the picture are distances."""

    def __init__(self, points: npt.NDArray[np.float64]) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        room = np.array([_WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM], np.float64)
        unit = max(float(((high - low) * 1.08 / room).max()), 1e-9)
        self.unit = unit
        self.low = (low + high) / 2 - room * unit / 2
        self.high = self.low + room * unit

    def place(self, x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - self.low[0]) / self.unit, _HEIGHT - _BOTTOM - (y - self.low[1]) / self.unit


def _axes(pen: ImageDraw.ImageDraw, frame: _Frame, x_label: str, y_label: str) -> None:
    box = (_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)
    for axis in (0, 1):
        for tick in nice_ticks(frame.low[axis], frame.high[axis], 6):
            if not frame.low[axis] <= tick <= frame.high[axis]:
                continue
            x, y = frame.place(*((tick, 0.0) if axis == 0 else (0.0, tick)))
            line = (x, box[1], x, box[3]) if axis == 0 else (box[0], y, box[2], y)
            pen.line([value * _SCALE for value in line], fill=_GRID, width=_SCALE)
            where = (x, box[3] + 12) if axis == 0 else (box[0] - 12, y)
            _text(pen, where, format_tick(tick), 18, "mt" if axis == 0 else "rm", colour=_GREY)
    pen.rectangle([value * _SCALE for value in box], outline=_GREY, width=_SCALE)
    _text(pen, ((box[0] + box[2]) / 2, _HEIGHT - 28), x_label, 20, "mb")
    _text(pen, (_LEFT, _TOP - 14), y_label, 20, "lb")


def _marks(pen: ImageDraw.ImageDraw, frame: _Frame, clouds: Sequence[PointGroup]) -> None:
    count = sum(len(cloud.points) for cloud in clouds)
    radius = 7.0 if count <= 500 else 4.5
    turns = [
        (row / len(cloud.points), number, row)
        for number, cloud in enumerate(clouds)
        for row in range(len(cloud.points))
    ]
    for _, number, row in sorted(turns):
        cloud = clouds[number]
        _mark(pen, frame.place(*cloud.points[row]), radius, cloud)


def _mark(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, cloud: PointGroup) -> None:
    x, y = centre[0] * _SCALE, centre[1] * _SCALE
    r = radius * _SCALE
    if cloud.mark == "disc":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=cloud.colour, outline="white", width=_SCALE)
        return
    r *= 1.2
    pen.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], fill=cloud.colour, outline="white", width=_SCALE)


def _legend(pen: ImageDraw.ImageDraw, clouds: Sequence[PointGroup]) -> None:
    x = float(_LEFT + 10)
    for cloud in clouds:
        _mark(pen, (x, 78), 9, cloud)
        x += 20
        x = _text(pen, (x, 78), f"{cloud.name} ({len(cloud.points)})", 21, "lm") + 40


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str, *, colour: Rgb = _TEXT
) -> float:
    """Write, shortened where it would leave the picture; return where the text ends, in pixels from the left."""
    font: Any = font_for((size * _SCALE * 48, 0), text)
    x, y = at[0] * _SCALE, at[1] * _SCALE
    if anchor[0] == "l":
        room = _WIDTH * _SCALE - x - 10 * _SCALE
        shown = text
        while len(shown) > 1 and pen.textlength(shown, font=font) > room:
            shown = shown[:-2] + "…" if text.isascii() is False else shown[:-4] + "..."
        text = shown
    pen.text((x, y), text, fill=colour, font=font, anchor=anchor)
    return (x + pen.textlength(text, font=font)) / _SCALE
