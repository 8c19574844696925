"""Draw charts with matplotlib's object API: SVG for pages, in the colours of the page, and pixels for picture files.

A page has light and dark colours, so the SVG names no colour for text, axes and series: it refers to the CSS variables
of the page (`templates/style.css`) and to `currentColor`. Text stays text.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from tlvision.report.colours import Rgb
from tlvision.types import Pixels, check_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07800", "#3f9bd1")
"""Colours of lines; on a page the variables --series-1 … --series-6."""
_INK, _GRID = "#101112", "#d0d1d2"  # stand for currentColor and --grid
_WIDTH, _HEIGHT = 4.9, 2.9
_PIXELS = 112  # of a page for an inch, at most: text of 9.5 points is as large as that of the page
_MOST_POINTS = 300
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "tlvision",  # the same ids in every process
    "path.simplify_threshold": 0.5,
    "text.parse_math": False,  # a class may be called "$5$"
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GRID,
    "axes.axisbelow": True,
    "axes.labelpad": 3,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}

Numbers = Sequence[float | None]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Draw in our style, whatever matplotlib's settings are, and leave these as they are."""

    @wraps(draw)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        from matplotlib import rc_context

        with rc_context(_STYLE), warnings.catch_warnings():
            # In an SVG the page's fonts draw the letters.
            warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
            return draw(*args, **kwargs)

    return wrapped


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    name: shown in the legend, if it is not "" and there are several. x, y: a y of None or nan makes a gap.
    colour: place in SERIES, which repeats. marks: a dot at each point. faint: thin and pale, for raw values.
    dashed: for what is not measured, such as a diagonal.
    """

    name: str
    x: Numbers
    y: Numbers
    colour: int = 0
    marks: bool = False
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PointGroup:
    """One group of points: legend name, (N, 2) finite floats, colour, and a matplotlib marker such as "o" or "D"."""

    name: str
    points: npt.NDArray[np.float64]
    colour: Rgb
    marker: str = "o"


@_styled
def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    from_zero: bool = False,
    log_x: bool = False,
) -> str:
    """Return an SVG of lines, back to front; "" if no point is finite. Lines with many points are averaged.

    from_zero: the y axis begins at 0, for values that are never below. log_x: the x axis is logarithmic; x above 0.

    >>> line_chart([Line("loss", [0, 1], [2.0, 1.0])], x_label="step", y_label="loss")[:4]
    '<svg'
    """
    points = [(line, *_finite(line)) for line in lines]
    if not any(np.isfinite(y).any() for _, _, y in points):
        return ""
    names = [line.name for line in lines if line.name]
    columns = max(1, min(len(names), 52 // (max(map(len, names), default=0) + 8)))
    rows = math.ceil(len(names) / columns) if len(names) > 1 else 0
    figure, axes = _axes(_WIDTH, _HEIGHT, left=0.72, top=0.1 + 0.2 * rows)
    for line, x, y in points:
        axes.plot(
            x,
            y,
            color=_INK if line.dashed else SERIES[line.colour % len(SERIES)],
            alpha=0.35 if line.faint else 0.6 if line.dashed else 1,
            linewidth=0.8 if line.faint or line.dashed else 1.8,
            linestyle="--" if line.dashed else "-",
            marker="o" if line.marks else None,
            markersize=4,
            label=line.name or None,
        )
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_formatter("{x:g}")  # numbers without a common factor, which would need a place of its own
    axes.yaxis.set_major_formatter("{x:g}")
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # the scale has brought its own
    elif all(value is None or float(value).is_integer() for line in lines for value in line.x):
        axes.locator_params(axis="x", integer=True)
    if x_range is not None:
        axes.set_xlim(*x_range)
    if from_zero:
        axes.set_ylim(0, 1.08 * max(float(np.nanmax(y, initial=0)) for _, _, y in points) or 1)
    elif y_range is not None:
        axes.set_ylim(*y_range)
    if rows:  # above the axes, where it hides no line
        figure.legend(loc="upper left", ncols=columns, handlelength=1.6, columnspacing=1.2, borderaxespad=0.1)
    return _svg(figure, f"{y_label} by {x_label}")


@_styled
def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of precision by mean score, a bubble for each bin as large as its share of the detections.

    bins: rows with mean_score, precision (0..1 or None) and detections, as `tlvision.evaluation.calibration` has them.
    """
    filled = [row for row in bins if row.get("detections")]
    if not filled:
        return ""
    score, precision = ([float(row[key]) for row in filled] for key in ("mean_score", "precision"))
    share = np.array([row["detections"] for row in filled], np.float64) / sum(row["detections"] for row in filled)
    figure, axes = _axes(3.6, 3.2, left=0.6)
    axes.plot([0, 1], [0, 1], color=_INK, alpha=0.6, linewidth=0.8, linestyle="--")
    axes.plot(score, precision, color=SERIES[0], linewidth=1.5)
    axes.scatter(score, precision, s=15 + 350 * share, color=SERIES[0], alpha=0.6, linewidths=0)
    axes.set(xlabel="mean score", ylabel="share of right detections", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _svg(figure, "share of right detections by mean score")


@_styled
def heat_map(
    counts: npt.NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], *, x_label: str, y_label: str
) -> str:
    """Return an SVG of a table of counts, each cell as dark as its share of its row; cells of 0 stay empty."""
    height, width = counts.shape
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _axes(min(2.0 + 0.62 * width, 8.0), 1.3 + 0.36 * height)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, column in np.argwhere(counts).tolist():
        share = float(shares[row, column])
        corner = column - 0.48, row - 0.46
        axes.add_patch(_rectangle(corner, 0.96, 0.92, facecolor=SERIES[0], alpha=0.06 + 0.54 * share, linewidth=0))
        axes.text(column, row, _short(int(counts[row, column])), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(width), [_clip(name) for name in columns], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(height), [_clip(name) for name in rows])
    axes.tick_params(length=0)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xlabel=x_label, ylabel=y_label)
    return _svg(figure, f"{y_label} by {x_label}")


@_styled
def dot_plot(
    rows: Sequence[tuple[str, Sequence[float], int]],
    references: Sequence[float],
    *,
    x_label: str,
    intervals: Sequence[tuple[float, float] | None] = (),
) -> str:
    """Return an SVG with a row for each (name, values, colour): a dot a value and a bar at their mean.

    references: values with a dashed line through all rows. intervals: one for each row, as a horizontal line.
    """
    if not any(values for _, values, _ in rows):
        return ""
    figure, axes = _axes(_WIDTH + 0.6, 0.9 + 0.33 * len(rows))
    for value in references:
        axes.axvline(value, color=_INK, alpha=0.5, linewidth=0.8, linestyle="--")
    for row, interval in enumerate(intervals):
        if interval is not None:
            axes.plot(interval, [row, row], color=SERIES[rows[row][2] % len(SERIES)], linewidth=2.2, alpha=0.5)
    for row, (_, values, colour) in enumerate(rows):
        axes.scatter(values, [row] * len(values), s=28, color=SERIES[colour % len(SERIES)], alpha=0.8, linewidths=0)
        if values:
            axes.plot([float(np.mean(values))] * 2, [row - 0.3, row + 0.3], color=_INK, linewidth=1.6)
    axes.set_yticks(range(len(rows)), [_clip(name, 34) for name, _, _ in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=x_label)
    axes.tick_params(axis="y", length=0)
    return _svg(figure, x_label)


@_styled
def scatter(groups: Sequence[PointGroup], *, title: str, x_label: str, y_label: str) -> Pixels:
    """Draw groups of points with equal units on both axes; points alternate, so that no group hides another.

    Returns (900, 1200, 3) uint8 RGB on white. Raises ValueError if there is no point, or one is not finite.

    >>> scatter([PointGroup("a", np.zeros((3, 2)), (0, 0, 0))], title="t", x_label="x", y_label="y").shape
    (900, 1200, 3)
    """
    for group in groups:
        check_array("scatter", group.name, group.points, ("N", 2), ("float64",))
    points = np.concatenate([group.points for group in groups]) if groups else np.zeros((0, 2))
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"scatter: expected finite points, at least one, got {len(points)} of which some may be nan")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, axes = _axes(8.0, 6.0)
    canvas = FigureCanvasAgg(figure)
    figure.set(dpi=150, facecolor="white")
    axes.set_aspect("equal", adjustable="datalim")
    order = np.argsort(np.concatenate([np.arange(len(group.points)) / len(group.points) for group in groups]))
    owner = np.repeat(np.arange(len(groups)), [len(group.points) for group in groups])
    for layer, place in enumerate(order.tolist()):
        group = groups[owner[place]]
        axes.plot(*points[place], group.marker, color=_hex(group.colour), mec="white", mew=0.6, ms=7, zorder=3 + layer)
    for group in groups:
        label = f"{_clip(group.name, 50)} ({len(group.points)})"
        axes.plot([], [], group.marker, color=_hex(group.colour), ms=7, label=label)
    axes.set(xlabel=_clip(x_label, 90), ylabel=_clip(y_label, 70))
    axes.set_title("\n".join(textwrap.wrap(title, 80)[:2]), fontsize=11)
    axes.legend(loc="best")
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def running_mean(values: Numbers, window: int) -> list[float]:
    """Return the mean over the last `window` finite values at each place, nan before the first.

    >>> running_mean([2.0, 4.0, 6.0], 2)
    [2.0, 3.0, 5.0]
    """
    recent: list[float] = []
    result = []
    for value in values:
        if value is not None and math.isfinite(value):
            recent = [*recent[-(window - 1) :], value] if window > 1 else [value]
        result.append(sum(recent) / len(recent) if recent else math.nan)
    return result


def _axes(width: float, height: float, *, left: float | None = None, top: float = 0.1) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches, with no relation to other figures of the process, and its axes.

    left, top: margins in inches; with None for `left` all margins are as large as the texts need, which takes three
               times as long to draw.
    """
    from matplotlib.figure import Figure

    if left is None:
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()
    figure, bottom = Figure(figsize=(width, height)), 0.5
    return figure, figure.add_axes(
        (left / width, bottom / height, 1 - (left + 0.12) / width, 1 - (bottom + top) / height)
    )


def _rectangle(corner: tuple[float, float], width: float, height: float, **options: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **options)


def _finite(line: Line) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return x and y with nan for gaps, neighbours averaged where there are more than a chart can show."""
    x, y = (np.array([math.nan if v is None else v for v in values], np.float64) for values in (line.x, line.y))
    y[~(np.isfinite(x) & np.isfinite(y))] = np.nan
    size = math.ceil(len(y) / _MOST_POINTS)
    if size > 1:
        starts = np.arange(0, len(y), size)
        x, y = x[starts], np.add.reduceat(y, starts) / np.diff(starts, append=len(y))
    return x, y


def _svg(figure: Figure, label: str) -> str:
    """Return the figure as an <svg> element for a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>[\s\S]*?</metadata>|<!--[\s\S]*?-->|<style[\s\S]*?</style>", "", text)
    text = re.sub(r"<[^>]+>", _short_tag, text[text.index("<svg") :])
    # Charts of one page share no ids, and keep only those that they refer to.
    salt = sha256(text.encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{salt}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{salt}-", text)
    for place, colour in enumerate(SERIES, start=1):
        text = text.replace(colour, f"var(--series-{place})")
    text = text.replace(_GRID, "var(--grid)").replace(_INK, "currentColor")
    # Text is black in matplotlib's SVG if nothing else is said.
    width = round(figure.get_figwidth() * _PIXELS)
    opening = f'<svg role="img" aria-label="{escape(label)}" fill="currentColor" style="max-width: {width}px"'
    return re.sub(r"\s*\n\s*", "\n", text).replace("<svg", opening, 1).strip()


def _short_tag(tag: re.Match[str]) -> str:
    """Return an SVG tag without what a page does not need: size, fonts, namespaces, digits behind 1/100 of a point."""
    text = tag[0].replace("xlink:href", "href").replace(' transform="rotate(-0 ', ' data-none="(')
    text = re.sub(r' (width|height)="[^"]*pt"| xmlns[^=]*="[^"]*"| version="1.1"| data-none="[^"]*"', "", text)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"font-family: [^;\"]*;? ?", "", text))


def _clip(text: str, most: int = 22) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _short(count: int) -> str:
    """Return a count in at most four letters.

    >>> [_short(number) for number in (7, 9999, 12345, 3_400_000)]
    ['7', '9999', '12k', '3.4M']
    """
    if count < 10_000:
        return str(count)
    limit, unit = next((limit, unit) for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= limit)
    return f"{count / limit:.0f}{unit}" if count >= 10 * limit else f"{count / limit:.1f}{unit}"


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
