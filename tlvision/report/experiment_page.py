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
            *(_search(each, table["higher_is_better"]) for each in table.get("search", ())),
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


def _search(search: Mapping[str, Any], higher_is_better: bool) -> Section | None:
    """Return what the search of one row has tried: the values along each key, and along the epochs."""
    candidates = search["candidates"]
    keys = list(search["chosen"])
    charts = [(f"Along {key}", _along(search, key)) for key in keys]
    if any(len(each["curve"]) > 1 for each in candidates):
        charts.append(("Along the epochs of training", _rounds(search)))
    sign = -1 if higher_is_better else 1
    rows = sorted(candidates, key=lambda each: (-each["epochs"], sign * (each["value"] or 0.0)))
    heads = ("epochs", "value", *(["error"] if any(each["error"] for each in rows) else []))
    body = [
        (", ".join(f"{key}={each['values'][key]}" for key in keys), *(each[head] for head in heads)) for each in rows
    ]
    data = DataTable(("candidate", *heads), body, text=("error",))
    note = (
        f"Chosen on training images that were held out: {_words(search['chosen'])} (orange), of {len(candidates)} "
        f"candidates, in {search['epochs']} epochs of {search['epochs_of_all']} that all of them would take."
    )
    return section(
        f"Search: {search['row']}", [{"charts": [each for each in charts if each[1]]}, {"table": data}], note
    )


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _along(search: Mapping[str, Any], key: str) -> str:
    """Return a chart with a dot for each candidate that was trained as long as the chosen one or less, "" for words."""
    measured = [each for each in search["candidates"] if each["value"] is not None]
    values = [each["values"][key] for each in measured]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return ""
    longest = max(each["epochs"] for each in measured)
    dots = [
        Line(
            "",
            [each["values"][key]],
            [each["value"]],
            colour=1 if each["values"] == search["chosen"] else 0,
            marks=True,
            faint=each["epochs"] < longest,
        )
        for each in measured
    ]
    wide = min(values) > 0 and max(values) > 10 * min(values)
    return line_chart(dots, x_label=key, y_label=search["metric"], log_x=wide)


def _rounds(search: Mapping[str, Any]) -> str:
    lines = [
        Line(
            "",
            [epoch for epoch, _ in each["curve"]],
            [value for _, value in each["curve"]],
            colour=1 if each["values"] == search["chosen"] else 0,
            marks=True,
        )
        for each in sorted(search["candidates"], key=lambda each: each["values"] == search["chosen"])
    ]
    return line_chart([line for line in lines if line.x], x_label="epoch", y_label=search["metric"])


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
