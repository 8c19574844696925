"""The page of `tlvision compress`: which variant to take, the picture of speed and metric, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.report.figures import Line, line_chart
from tlvision.report.page import DataTable, Page, Section, section, write_page

QUALITY = ("value", "from", "to", "lost", "lost from", "lost to", "worst class", "its value", "stress loss")
COST = ("MB", "ms (median)", "ms (95 %)", "memory MB")

_QUALITY_NOTE = (
    "from, to: 95 % interval over the images. lost: against the first bundle, on the same resamples of the images, "
    "with its interval. stress loss: mean relative loss on corrupted images."
)
_COST_NOTE = (
    "MB: the graphs. ms: from the network input of one image to its objects or scores. memory: peak of a process that "
    "predicts."
)


def write_compress_page(path: Path, table: Mapping[str, Any]) -> Path:
    """Write the page of table.json, and return its path."""
    page = Page(
        title=f"Compressed: {table['run']}",
        answer=table["advice"][0],
        details=[*table["advice"][1:], *table["notes"]],
        facts=[
            ("metric", table["metric"]),
            ("images", f"{table['images']:,}"),
            ("threads", str(table["threads"])),
        ],
        sections=[
            _picture(table),
            _table("Metric", table["rows"], QUALITY, _QUALITY_NOTE),
            _table("Cost", table["rows"], COST, _COST_NOTE),
        ],
    )
    return write_page(path, page)


def cells(row: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Return the cells of a row of table.json by column; None where nothing was measured."""
    latency = row["latency"] or {"median": None, "p95": None}
    quality = ("value", "low", "high", "drop", "drop_low", "drop_high", "worst", "worst_value", "stress")
    cost = (row["megabytes"], latency["median"], latency["p95"], row["memory"])
    return {
        **dict(zip(QUALITY, (row[key] for key in quality), strict=True)),
        **{name: None if value is None else f"{value:.1f}" for name, value in zip(COST, cost, strict=True)},
    }


def _picture(table: Mapping[str, Any]) -> Section | None:
    """Return metric by latency, a dot for each variant, and a line through those that no other one beats."""
    rows = [row for row in table["rows"] if row["value"] is not None and row["latency"] is not None]
    lines = [_front(table)] if table["pareto"] else []
    lines += [
        Line(row["name"], [row["latency"]["median"]], [row["value"]], colour=number, marks=True)
        for number, row in enumerate(rows)
    ]
    chart = line_chart(lines, x_label="ms for an image (median)", y_label=table["metric"])
    note = "Left is faster, up is better. The line joins the variants that no other one beats in both."
    return section("Speed and metric", [{"charts": [("", chart)]}], note)


def _front(table: Mapping[str, Any]) -> Line:
    rows = {row["name"]: row for row in table["rows"]}
    front: Sequence[Mapping[str, Any]] = [rows[name] for name in table["pareto"]]
    return Line("", [row["latency"]["median"] for row in front], [row["value"] for row in front], colour=0, dashed=True)


def _table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], note: str) -> Section | None:
    """Return a table of the columns in which something was measured."""
    found = [(row["name"], cells(row)) for row in rows]
    shown = [column for column in columns if any(each[column] is not None for _, each in found)]
    body = [(name, *(each[column] for column in shown)) for name, each in found]
    return section(title, [{"table": DataTable(("variant", *shown), body, text=("worst class",))}], note)
