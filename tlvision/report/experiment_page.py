"""The page of `tlvision experiment`: the table, every value, differences with intervals, a curve along a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.report.figures import Line, dot_plot, line_chart
from tlvision.report.page import DataTable, Page, Section, section, write_page

_COLOURS = {"better": 2, "worse": 1}  # places in figures.SERIES: green, orange; all others are blue
_TABLE = ("count", "mean", "sd", "min", "max", "minutes", "memory")
_DERIVED = ("gap_closed", "source", "forgetting", "regret", "cost")


def write_experiment_page(path: Path, table: Mapping[str, Any]) -> Path:
    """Write the page of table.json, and return its path."""
    rows = table["rows"]
    page = Page(
        title=f"Experiment: {table['metric']}",
        answer=_answer(table),
        details=table["notes"],
        facts=[("rows", str(len(rows))), ("runs", str(sum(len(row["runs"]) for row in rows)))],
        sections=[
            _values(table),
            _differences(table),
            _selection(rows),
            _pseudo_labels(rows),
            _notes(rows),
            _runs(rows),
        ],
    )
    return write_page(path, page)


def _answer(table: Mapping[str, Any]) -> str:
    measured = [row for row in table["rows"] if row["mean"] is not None]
    if not measured:
        return f"No trial has a value of {table['metric']}."
    pick = max if table["higher_is_better"] else min
    best = pick(measured, key=lambda row: row["mean"])
    spread = "" if best["sd"] is None else f", standard deviation {best['sd']:.4f}"
    return f"The best mean of {table['metric']} is {best['mean']:.4f} ({best['name']}; {best['count']} runs{spread})."


def _values(table: Mapping[str, Any]) -> Section | None:
    rows = table["rows"]
    data = DataTable(("row", *_TABLE), [(row["name"], *(row[key] for key in _TABLE)) for row in rows])
    dots = dot_plot([(row["name"], _numbers(row), 0) for row in rows], [], x_label=table["metric"])
    charts = [chart for chart in (_curve(table), ("Every run, and the mean", dots)) if chart[1]]
    return section("Results", [{"charts": charts}, {"table": data}])


def _curve(table: Mapping[str, Any]) -> tuple[str, str]:
    """Return title and lines along the axis whose values are numbers, "" if there is not exactly one such axis."""
    rows = [row for row in table["rows"] if row["mean"] is not None]
    values = {axis: [row["point"][axis] for row in rows] for axis in (rows[0]["point"] if rows else ())}
    numeric = [axis for axis, each in values.items() if len(set(each)) > 2 and all(map(_is_number, each))]
    if len(numeric) != 1:
        return "", ""
    axis = numeric[0]
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        name = ", ".join(value for key, value in row["point"].items() if key != axis)
        groups.setdefault(name, []).append((float(row["point"][axis]), row["mean"]))
    lines = [
        Line(name, [x for x, _ in sorted(points)], [y for _, y in sorted(points)], colour=number, marks=True)
        for number, (name, points) in enumerate(groups.items())
    ]
    return f"Mean along {axis}", line_chart(lines, x_label=axis, y_label=table["metric"])


def _differences(table: Mapping[str, Any]) -> Section | None:
    rows = [row for row in table["rows"] if row["difference"] is not None]
    if not rows:
        return None
    chart = dot_plot(
        [(row["name"], [row["difference"]], _COLOURS.get(row["verdict"], 0)) for row in rows],
        [0.0],
        x_label=f"difference of {table['metric']}",
        intervals=[None if row["low"] is None else (row["low"], row["high"]) for row in rows],
    )
    data = DataTable(
        ("row", "reference", "difference", "low", "high", "p", "over", "verdict"),
        [
            tuple(row[key] for key in ("name", "reference", "difference", "low", "high", "p", "over", "verdict"))
            for row in rows
        ],
        text=("reference", "over", "verdict"),
    )
    note = "A dot at the difference, a line for its 95 % interval. p is corrected for the number of rows (Holm)."
    return section("Differences", [{"charts": [("", chart)]}, {"table": data}], note)


def _selection(rows: Sequence[Mapping[str, Any]]) -> Section | None:
    """Return the columns that follow from others, and what chose the checkpoints; None if there are none."""
    heads = [key for key in _DERIVED if any(row[key] for row in rows)]
    if not heads:
        return None
    text = ("chosen by",)
    data = DataTable(
        ("row", *heads, *text), [(row["name"], *(row[key] for key in heads), row["selected_by"]) for row in rows], text
    )
    note = (
        "gap_closed: share of the way from the reference to the oracle. forgetting: loss on the source against the "
        "reference. regret: how far the chosen epoch is from the best one, by the validation images. cost: minutes of "
        "a trial for each hundredth that it is better than the reference."
    )
    return section("Derived figures", [{"table": data}], note)


def _pseudo_labels(rows: Sequence[Mapping[str, Any]]) -> Section | None:
    """Return precision and recall of the final teachers' labels on the target's training images, over thresholds."""
    blocks = []
    for row in rows:
        if quality := row.get("pseudo_labels"):
            groups = {"all": quality["all"]} | {
                name: lines["thresholds"] for name, lines in quality["per_class"].items()
            }
            keys = ("threshold", "pseudo_labels", "precision", "recall", "mean_iou")
            body = [(name, *(line[key] for key in keys)) for name, lines in groups.items() for line in lines]
            blocks.append({"details": row["name"], "table": DataTable(("class", *keys), body)})
    return section("Quality of the pseudo-labels", blocks)


def _notes(rows: Sequence[Mapping[str, Any]]) -> Section | None:
    return section("Notes", [{"notes": [f"{row['name']}: {text}" for row in rows for text in row["notes"]]}])


def _runs(rows: Sequence[Mapping[str, Any]]) -> Section | None:
    return section("Runs", [{"pairs": [(row["name"], ", ".join(row["runs"])) for row in rows]}])


def _numbers(row: Mapping[str, Any]) -> list[float]:
    return [value for value in row["values"].values() if value is not None]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
