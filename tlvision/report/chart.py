"""Line charts as inline SVG: no script, no library, readable when printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from tlvision.report.colours import Rgb

Point = tuple[float, float]

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 42
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    name:   shown in the legend.
    points: x, y; an y that is not finite makes a gap.
    colour: of the line.
    faint:  thin and pale, for raw values behind a smoothed line.
    marks:  a dot at each point, for few points.
    """

    name: str
    points: tuple[Point, ...]
    colour: Rgb
    faint: bool = False
    marks: bool = False


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, from_zero: bool = False) -> str:
    """Return an <svg> element with axes, grid, legend, and a tooltip on each dot.

    series:    what to draw, back to front; lines with many points are averaged down to 400.
    from_zero: the y axis begins at 0 even where all values are far above.

    Returns an empty string where there is no finite point.

    >>> line_chart([Series("loss", ((0, 2.0), (1, 1.0)), (0, 0, 0))], x_label="step", y_label="loss")[:4]
    '<svg'
    """
    finite = [point for line in series for point in line.points if all(map(math.isfinite, point))]
    if not finite:
        return ""
    x_ticks = nice_ticks(min(x for x, _ in finite), max(x for x, _ in finite))
    low = 0.0 if from_zero else min(y for _, y in finite)
    y_ticks = nice_ticks(min(low, *(y for _, y in finite)), max(y for _, y in finite))
    x_range = (min(x for x, _ in finite), max(x for x, _ in finite))
    if x_range[0] == x_range[1]:
        x_range = (x_range[0] - 0.5, x_range[1] + 0.5)
    y_range = (y_ticks[0], y_ticks[-1])

    def place(point: Point) -> Point:
        x = _LEFT + (point[0] - x_range[0]) / (x_range[1] - x_range[0]) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (point[1] - y_range[0]) / (y_range[1] - y_range[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} by {escape(x_label)}">']
    for tick in y_ticks:
        y = place((x_range[0], tick))[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{format_tick(tick)}</text>')
    for tick in x_ticks:
        if x_range[0] <= tick <= x_range[1]:
            x = place((tick, y_range[0]))[0]
            parts.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{format_tick(tick)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts += [_draw(line, place) for line in series]
    parts.append("</svg>")
    return "".join(parts) + _legend(series)


def smooth(points: Sequence[Point], window: int) -> tuple[Point, ...]:
    """Return the running mean of y over the last `window` finite points; x stays.

    >>> smooth(((0, 2.0), (1, 4.0), (2, 6.0)), 2)
    ((0, 2.0), (1, 3.0), (2, 5.0))
    """
    result: list[Point] = []
    recent: list[float] = []
    for x, y in points:
        if math.isfinite(y):
            recent = [*recent[-(window - 1) :], y] if window > 1 else [y]
            result.append((x, sum(recent) / len(recent)))
    return tuple(result)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) that enclose low..high, about `count` of them.

    >>> nice_ticks(0.0, 0.93)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def format_tick(value: float) -> str:
    """Return a short number for an axis.

    >>> [format_tick(value) for value in (0.0, 0.25, 1500.0, 0.00002)]
    ['0', '0.25', '1500', '2e-05']
    """
    return f"{value:.6g}"


def _draw(line: Series, place: Callable[[Point], Point]) -> str:
    colour = "rgb({}, {}, {})".format(*line.colour)
    style = f'stroke="{colour}" stroke-width="{1 if line.faint else 2}" stroke-opacity="{0.4 if line.faint else 1}"'
    parts = []
    for run in _unbroken(_thinned(line.points)):
        path = " ".join(f"{x},{y}" for x, y in map(place, run))
        parts.append(f'<polyline fill="none" stroke-linejoin="round" {style} points="{path}"/>')
    if line.marks:
        for point in line.points:
            if all(map(math.isfinite, point)):
                x, y = place(point)
                title = f"{escape(line.name)} {point[1]:.4f} at {format_tick(point[0])}"
                parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"><title>{title}</title></circle>')
    return "".join(parts)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Average neighbouring points where there are more than a screen can show; gaps stay gaps."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return list(points)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(chunk[0][0], sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _unbroken(points: Sequence[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _legend(series: Sequence[Series]) -> str:
    items = [
        f'<span><i style="background: rgb({line.colour[0]}, {line.colour[1]}, {line.colour[2]})"></i>'
        f"{escape(line.name)}</span>"
        for line in series
        if not line.faint
    ]
    return f'<p class="legend">{"".join(items)}</p>' if len(items) > 1 else ""
