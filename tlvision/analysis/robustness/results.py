"""Results of a stress test: relative losses, the content of stress.json, and what to conclude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from tlvision import terminal
from tlvision.analysis.robustness.severities import SCALES
from tlvision.tasks import Metric
from tlvision.types import listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The metric under one corruption.

    corruption: its name.
    severities: those that were measured, ascending.
    values:     the metric at each; None if there was nothing to measure.
    losses:     relative loss at each, (clean - value) / clean. 0 is no loss, 1 is a metric of 0, and below 0 is a gain.
    """

    corruption: str
    severities: tuple[int, ...]
    values: tuple[float | None, ...]
    losses: tuple[float | None, ...]

    @property
    def loss(self) -> float | None:
        """Return the mean loss of the measured severities; None if none was measured."""
        measured = [loss for loss in self.losses if loss is not None]
        return fmean(measured) if measured else None

    @property
    def title(self) -> str:
        """Return the name as plain words."""
        return self.corruption.replace("_", " ")


def make_curve(metric: Metric, clean: float | None, corruption: str, values: Mapping[int, float | None]) -> Curve:
    """Return the curve of one corruption.

    metric: gives the direction. clean: its value on the images as they are. values: by severity.

    >>> make_curve(Metric("bbox/AP"), 0.5, "fog", {1: 0.5, 5: 0.1}).losses
    (0.0, 0.8)
    """
    losses = tuple(_relative_loss(metric, clean, value) for value in values.values())
    return Curve(corruption=corruption, severities=tuple(values), values=tuple(values.values()), losses=losses)


def _relative_loss(metric: Metric, clean: float | None, value: float | None) -> float | None:
    if not clean or value is None:
        return None
    loss = (clean - value) / clean
    return loss if metric.higher_is_better else -loss


def mean_loss(curves: Sequence[Curve]) -> float | None:
    """Return the mean over the corruptions of their losses; None if none was measured."""
    measured = [curve.loss for curve in curves if curve.loss is not None]
    return fmean(measured) if measured else None


def worst_first(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves by falling loss; those that were not measured come last."""
    return sorted(curves, key=lambda curve: -float("inf") if curve.loss is None else curve.loss, reverse=True)


def not_measured(metric: Metric, clean: float | None, curves: Sequence[Curve]) -> list[str]:
    """Return a sentence for each loss that could not be measured."""
    name = short(metric)
    if clean is None:
        return [f"{name} is not measured: the images have nothing that it counts. Check the validation labels."]
    if clean == 0:
        return [
            f"The relative losses are not measured: {name} is 0 on the clean images. Train longer, or check the labels."
        ]
    gaps = [
        f"{curve.title} {severity}"
        for curve in curves
        for severity, value in zip(curve.severities, curve.values, strict=True)
        if value is None
    ]
    return [f"Not measured, because no object was left to count: {listing(gaps)}."] if gaps else []


def conclude(metric: Metric, clean: float | None, curves: Sequence[Curve]) -> str:
    """Return one sentence that names the corruption with the largest mean loss.

    >>> fog = make_curve(Metric("bbox/AP"), 0.5, "fog", {1: 0.4, 5: 0.1})
    >>> conclude(Metric("bbox/AP"), 0.5, [fog])
    'Fog costs most: AP falls by 80 % at severity 5, from 0.500 to 0.100.'
    """
    worst = worst_first(curves)[0]
    if worst.loss is None:
        return f"No loss of {short(metric)} is measured."
    if worst.loss <= 0:
        return f"No corruption lowers {short(metric)} on average."
    rows = zip(worst.losses, worst.severities, worst.values, strict=True)
    loss, severity, value = max((loss, severity, value) for loss, severity, value in rows if loss is not None)
    verb = "falls" if metric.higher_is_better else "rises"
    start = "JPEG" if worst.corruption == "jpeg" else worst.title.capitalize()
    change = f"{verb} by {100 * loss:.0f} % at severity {severity}, from {clean:.3f} to {value:.3f}"
    return f"{start} costs most: {short(metric)} {change}."


def short(metric: Metric) -> str:
    """Return a metric's name without its kind, as plain words.

    >>> short(Metric("bbox/AP")), short(Metric("semantic/mean_class_iou"))
    ('AP', 'mean class IoU')
    """
    return metric.name.rpartition("/")[2].replace("_", " ").replace("iou", "IoU")


def loss_table(metric: Metric, curves: Sequence[Curve]) -> Table:
    """Return a table with one row a corruption, the largest loss first."""
    severities = curves[0].severities
    columns = [f"severity {severity}" for severity in severities]
    table = terminal.table("corruption", *columns, "relative loss", right=[*columns, "relative loss"])
    for curve in worst_first(curves):
        values = ["-" if value is None else f"{value:.3f}" for value in curve.values]
        table.add_row(curve.title, *values, percent(curve.loss))
    table.add_section()
    table.add_row("mean", *_mean_values(curves), percent(mean_loss(curves)))
    return table


def _mean_values(curves: Sequence[Curve]) -> list[str]:
    columns = zip(*(curve.values for curve in curves), strict=True)
    known = [[value for value in column if value is not None] for column in columns]
    return [f"{fmean(values):.3f}" if values else "-" for values in known]


def percent(loss: float | None) -> str:
    """Return a relative loss for people.

    >>> percent(0.123), percent(None)
    ('12.3 %', 'not measured')
    """
    return "not measured" if loss is None else f"{100 * loss:.1f} %"


def curves_as_json(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the part of stress.json on the corruptions."""
    return {
        curve.corruption: {
            "strength": SCALES[curve.corruption].meaning,
            "strengths": [SCALES[curve.corruption].values[severity - 1] for severity in curve.severities],
            "values": list(curve.values),
            "relative_losses": list(curve.losses),
            "relative_loss": curve.loss,
        }
        for curve in curves
    }
