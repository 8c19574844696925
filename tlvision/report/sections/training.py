"""Curves of a run: losses, metrics, learning rate and pseudo-labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tlvision.report.figures import SERIES, Line, line_chart, running_mean
from tlvision.report.page import Section, section, spaced
from tlvision.report.run_files import RunFiles, mapping, number

_PREFERRED = ("AP", "AP50", "AP75", "mean_class_iou", "pixel_accuracy", "stability", "agreement", "certainty")
Series = dict[str, tuple[list[float], list[float]]]


def training_section(files: RunFiles) -> Section | None:
    """Return the charts, and the notices of hooks."""
    bad = sum(not math.isfinite(number(step.get("loss"))) for step in files.steps)
    if bad:
        files.notes.append(f"log.jsonl has {bad} step(s) whose loss is not a finite number; the curve has gaps there.")
    charts = [
        ("Loss", _loss(files)),
        ("Parts of the loss", _lines(_collect(files.steps, "losses"), _window(files), "parts of the loss")),
        *_metrics(files),
        *_measures(files),
        ("Learning rate", _rate(files)),
    ]
    notices = [f"step {line.get('step')}: {line.get('text')}" for line in files.notices]
    why = files.rate.get("why")
    return section(
        "Training",
        [
            *([{"charts": charts}] if any(chart for _, chart in charts) else []),
            *([{"text": why}] if isinstance(why, str) else []),
            *([{"title": "Notices", "notes": notices[:20]}] if notices else []),
        ],
    )


def _window(files: RunFiles) -> int:
    return max(1, len(files.steps) // 25)


def _column(lines: Sequence[Any], key: str) -> list[float]:
    return [number(line.get(key)) for line in lines]


def _loss(files: RunFiles) -> str:
    steps, loss = _column(files.steps, "step"), _column(files.steps, "loss")
    mean = Line("running mean", steps, running_mean(loss, _window(files)))
    lines = [Line("each step", steps, loss, faint=True), mean] if _window(files) > 1 else [Line("", steps, loss)]
    return line_chart(lines, x_label="step", y_label="loss")


def _collect(lines: Sequence[Any], key: str, x: str = "step") -> Series:
    """Return name -> x and y of the numbers that lines of the log have in the object `key`."""
    result: Series = {}
    for line in lines:
        for name, value in mapping(line, key).items():
            series = result.setdefault(str(name), ([], []))
            series[0].append(number(line.get(x)))
            series[1].append(number(value))
    return result


def _lines(series: Series, window: int, label: str, x_label: str = "step") -> str:
    """Return a chart of the series; "" for one, which the chart of the loss shows already."""
    if len(series) < 2:
        return ""
    lines = [Line(name, x, running_mean(y, window), place) for place, (name, (x, y)) in enumerate(series.items())]
    return line_chart(lines[: len(SERIES)], x_label=x_label, y_label=label, from_zero=True)


def _metrics(files: RunFiles) -> list[tuple[str, str]]:
    """Return a chart of the overall metrics of each kind; those by area and recall would only hide them."""
    kinds: dict[str, Series] = {}
    for name, series in _collect(files.evaluations, "metrics", "epoch").items():
        kinds.setdefault(name.rpartition("/")[0], {})[name] = series
    charts = []
    for kind, every in kinds.items():
        chosen = {name: series for name, series in every.items() if name.rpartition("/")[2] in _PREFERRED} or every
        lines = [
            Line(spaced(name.rpartition("/")[2]), x, y, place, marks=True)
            for place, (name, (x, y)) in enumerate(list(chosen.items())[: len(SERIES)])
        ]
        title = f"Metrics ({kind})" if kind else "Metrics"
        charts.append((title, line_chart(lines, x_label="epoch", y_label="metric", from_zero=True)))
    return charts


def _measures(files: RunFiles) -> list[tuple[str, str]]:
    """Return a chart of each group of what hooks measured, such as the number of pseudo-labels and their share."""
    groups: dict[str, Series] = {}
    for name, series in _collect(files.steps, "measures").items():
        group, _, last = name.rpartition("/")
        # Number and share have unlike scales; thresholds of the classes share one.
        title = f"{group} by class" if "/" in group else name
        groups.setdefault(title, {})[last if title != name else ""] = series
    charts = []
    for title, group_series in list(groups.items())[:8]:
        lines = [
            Line(name, x, running_mean(y, _window(files)), place)
            for place, (name, (x, y)) in enumerate(list(group_series.items())[: len(SERIES)])
        ]
        words = title.replace("_", "-").replace("/", ": ")
        chart = line_chart(
            lines, x_label="step", y_label=f"{spaced(title.rpartition('/')[2])} (running mean)", from_zero=True
        )
        charts.append((f"{words[0].upper()}{words[1:]}", chart))
    return charts


def _rate(files: RunFiles) -> str:
    line = Line("", _column(files.steps, "step"), _column(files.steps, "lr"), 2)
    return line_chart([line], x_label="step", y_label="learning rate", from_zero=True)
