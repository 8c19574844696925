"""Charts as PNG files, drawn with matplotlib's objects: no pyplot, no global state, no window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlvision.report.colours import PALETTE
from tlvision.types import RunError

_COLUMNS = 4
_PANEL_INCHES = 2.6, 1.9
_DPI = 130
_GREY = "0.82"
_BLUE = tuple(value / 255 for value in PALETTE[4])


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart of several.

    title:  above it.
    points: x and y; an y that is None makes a gap.
    """

    title: str
    points: tuple[tuple[float, float | None], ...]


def severity_curves(path: Path, panels: Sequence[Panel], *, title: str, y_label: str) -> None:
    """Write small charts with common axes: each shows its own line in colour and all others in grey.

    path:   of the PNG. panels: at least one, in reading order.
    title:  above all. y_label: at the left side; the y axis starts at 0.

    Raises ValueError if there is no panel, RunError if the file cannot be written.
    """
    # Late: matplotlib takes half a second, which only commands that draw should pay.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not panels:
        raise ValueError("severity_curves: there is no panel to draw")
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = max(columns, 2) * _PANEL_INCHES[0], rows * _PANEL_INCHES[1] + 0.5
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    lines = [
        ([x for x, _ in panel.points], [math.nan if y is None else y for _, y in panel.points]) for panel in panels
    ]
    for number, axes in enumerate(grid.flat):
        if number >= len(panels):
            axes.set_axis_off()
            continue
        for x, y in lines:
            axes.plot(x, y, color=_GREY, linewidth=0.8)
        axes.plot(*lines[number], color=_BLUE, linewidth=2, marker="o", markersize=3.5)
        axes.set_title(panels[number].title, fontsize=9, parse_math=False)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
        axes.tick_params(labelsize=8, labelbottom=number + columns >= len(panels))
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.supylabel(y_label, fontsize=9, parse_math=False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise RunError(
            f"'{path}' cannot be written ({error.strerror or error}). Free some space or choose another folder."
        ) from error
