"""The analysis of an evaluation as text for a terminal: thresholds, costs of errors, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tlvision.evaluation.error_kinds import KINDS
from tlvision.evaluation.score_map import fitted_in_words
from tlvision.evaluation.summary import align, format_number, format_table
from tlvision.types import listing

MOST_CLASSES = 20
"""Classes whose thresholds are printed; those with the most objects."""
MOST_NOTES = 8
"""Classes that are named in a note."""
_COLUMNS = ("threshold", "precision", "recall", "f1", "false_positives_per_image")


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Return the table of metrics, and below it what their analysis says.

    metrics: the content of metrics.json.
    """
    return f"{format_table(metrics)}\n\n{format_analysis(metrics)}".rstrip()


def format_analysis(metrics: Mapping[str, Any]) -> str:
    """Return what `analysis` in metrics.json says, "" without it.

    >>> print(format_analysis({"analysis": {"semantic": {
    ...     "border": {"near": {"pixels": 10, "error": 0.5}, "inside": {"pixels": 30, "error": 0.1}},
    ...     "images": {"quantiles": {"0.05": 0.2, "0.5": 0.6}, "worst": [{"image": "b", "mean_class_iou": 0.1}]},
    ... }}}))
    analysis of semantic
      wrong pixels: 0.5000 near borders between classes, 0.1000 elsewhere
      mean IoU of an image: median 0.6000, lowest 5 % up to 0.2000; the lowest is b with 0.1000
    """
    blocks = []
    for kind, found in (metrics.get("analysis") or {}).items():
        lines = [line for section, show in _SECTIONS.items() if section in found for line in show(found[section])]
        if lines:
            blocks.append("\n".join([f"analysis of {kind}", *lines]))
    return "\n\n".join(blocks)


def _border(found: Mapping[str, Any]) -> list[str]:
    near, inside = (format_number(found[place]["error"]) for place in ("near", "inside"))
    return [f"  wrong pixels: {near} near borders between classes, {inside} elsewhere"]


def _images(found: Mapping[str, Any]) -> list[str]:
    quantiles, worst = found["quantiles"], found["worst"]
    line = f"median {format_number(quantiles['0.5'])}, lowest 5 % up to {format_number(quantiles['0.05'])}"
    if worst:
        line += f"; the lowest is {worst[0]['image']} with {format_number(worst[0]['mean_class_iou'])}"
    return [f"  mean IoU of an image: {line}"]


def _thresholds(point: Mapping[str, Any]) -> list[str]:
    names = sorted(point["per_class"], key=lambda name: -point["per_class"][name]["objects"])[:MOST_CLASSES]
    rows = [("class", *(column.replace("_", " ") for column in _COLUMNS))]
    for name in [name for name in point["per_class"] if name in set(names)]:
        rows.append((name, *(_cell(point["per_class"][name][column]) for column in _COLUMNS)))
    rows.append(("all", *(_cell(point["all"].get(column)) for column in _COLUMNS)))
    rule = point["rule"] if "threshold" in point["rule"] else f"thresholds for {point['rule']}"
    return [f"  {rule}, IoU {point['iou']:g}", align(rows), *_notes(point)]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _notes(point: Mapping[str, Any]) -> list[str]:
    """Return why thresholds are not what the rule asks for; the classes with too few objects in one line."""
    rows = {name: row for name, row in point["per_class"].items() if "note" in row}
    few = [name for name, row in rows.items() if row["threshold"] == point["default"] and "are needed" in row["note"]]
    lines = [f"  all: {point['note']}"] if "note" in point else []
    if few:
        lines.append(f"  too few objects, so that the threshold of all classes counts: {listing(few, MOST_NOTES)}")
    others = [name for name in rows if name not in few]
    lines += [f"  {name}: {rows[name]['note']}" for name in others[:MOST_NOTES]]
    if len(others) > MOST_NOTES:
        lines.append(f"  notes on {len(others) - MOST_NOTES} more classes are in thresholds.json")
    return lines


def _errors(kinds: Mapping[str, Any]) -> list[str]:
    """Return the kinds of errors that cost AP50, the most expensive first."""
    costs = {name: kinds[name]["AP50_lost"] for name in KINDS if kinds[name]["AP50_lost"]}
    if not costs:
        return []
    shown = [f"{name} {cost:.3f} ({kinds[name]['count']})" for name, cost in sorted(costs.items(), key=lambda c: -c[1])]
    return [f"  AP50 lost by kind of error (number): {', '.join(shown)}"]


def _calibration(found: Mapping[str, Any]) -> list[str]:
    if found["error"] is None:
        return [f"  calibration: not measured, no detection has a score of {found['min_score']} or more"]
    filled = [row for row in found["bins"] if row["detections"]]
    total = sum(row["detections"] for row in filled)
    gap = sum(row["detections"] * (row["mean_score"] - row["precision"]) for row in filled) / total
    side = "higher" if gap > 0 else "lower"
    return [
        f"  calibration error {found['error']:.3f}: scores of {found['min_score']} or more are on average "
        f"{abs(gap):.3f} {side} than the share of right detections",
        *([f"  {fitted_in_words(found['fitted'])}"] if "fitted" in found else []),
    ]


_SECTIONS: dict[str, Callable[[Any], list[str]]] = {
    "operating_point": _thresholds,
    "error_kinds": _errors,
    "calibration": _calibration,
    "border": _border,
    "images": _images,
}
"""Section of an analysis -> its lines, in the order of the text. The other sections are in metrics.json only."""
