"""The curves of a run: losses, metrics and learning rate."""

from __future__ import annotations

import math
from html import escape

from tlvision.report.chart import Series, line_chart, smooth
from tlvision.report.colours import PALETTE
from tlvision.report.run_files import RunFiles, number

_PREFERRED = ("AP", "AP50", "AP75", "mean_class_iou", "pixel_accuracy", "stability", "agreement", "certainty")
_BLUE, _GREY = (0, 114, 178), (120, 120, 120)
# The yellow of the palette is too pale for a line on white.
_LINES = tuple(colour for colour in (PALETTE[4], PALETTE[5], PALETTE[2], PALETTE[6], PALETTE[0], PALETTE[1]))


def curves(files: RunFiles) -> str:
    """Return figures of the loss, its parts, the metrics and the learning rate; empty if nothing was logged."""
    figures = [
        ("Loss", _loss(files)),
        ("Parts of the loss", _parts(files)),
        *_metrics(files),
        ("Learning rate", _rate(files)),
    ]
    shown = [f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>" for title, chart in figures if chart]
    bad = sum(not math.isfinite(number(step.get("loss"))) for step in files.steps)
    if bad:
        files.notes.append(f"log.jsonl has {bad} step(s) whose loss is not a finite number; the curve has gaps there.")
    return f'<div class="charts">{"".join(shown)}</div>' if shown else ""


def _points(files: RunFiles, key: str) -> tuple[tuple[float, float], ...]:
    return tuple((number(step.get("step")), number(step.get(key))) for step in files.steps)


def _window(files: RunFiles) -> int:
    return max(1, len(files.steps) // 25)


def _loss(files: RunFiles) -> str:
    raw = _points(files, "loss")
    lines = [Series("each step", raw, _BLUE, faint=True), Series("running mean", smooth(raw, _window(files)), _BLUE)]
    return line_chart(lines, x_label="step", y_label="loss")


def _parts(files: RunFiles) -> str:
    parts: dict[str, list[tuple[float, float]]] = {}
    for step in files.steps:
        losses = step.get("losses")
        for name, value in losses.items() if isinstance(losses, dict) else ():
            parts.setdefault(str(name), []).append((number(step.get("step")), number(value)))
    if len(parts) < 2:
        return ""
    lines = [
        Series(name, smooth(points, _window(files)), _LINES[index % len(_LINES)])
        for index, (name, points) in enumerate(parts.items())
    ]
    return line_chart(lines, x_label="step", y_label="parts of the loss (running mean)", from_zero=True)


def _metrics(files: RunFiles) -> list[tuple[str, str]]:
    """Draw the overall metrics by epoch, boxes and masks apart; those per area and recall would only hide them."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for evaluation in files.evaluations:
        values = evaluation.get("metrics")
        for key, value in values.items() if isinstance(values, dict) else ():
            kind = str(key).rpartition("/")[0]
            point = number(evaluation.get("epoch")), number(value)
            found.setdefault(kind, {}).setdefault(str(key), []).append(point)
    figures = []
    for kind, every in found.items():
        preferred = {key: points for key, points in every.items() if key.rpartition("/")[2] in _PREFERRED}
        metrics = preferred or every
        lines = [
            Series(name, tuple(points), _LINES[index % len(_LINES)], marks=True)
            for index, (name, points) in enumerate(metrics.items())
        ]
        title = f"Metrics ({kind})" if len(found) > 1 else "Metrics"
        figures.append((title, line_chart(lines, x_label="epoch", y_label="metric", from_zero=True)))
    return figures


def _rate(files: RunFiles) -> str:
    points = _points(files, "lr")
    return line_chart([Series("lr", points, _GREY)], x_label="step", y_label="learning rate", from_zero=True)
