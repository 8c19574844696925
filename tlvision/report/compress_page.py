"""The page of `tlvision compress`: which variant to take, the picture of speed and metric, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.report.figures import Line, line_chart
from tlvision.report.page import DataTable, Page, Section, section, write_page

COLUMNS = (
    "variant",
    "value",
    "from",
    "to",
    "lost",
    "lost from",
    "lost to",
    "worst class",
    "its value",
    "MB",
    "ms (median)",
    "ms (95 %)",
    "memory MB",
    "stress loss",
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
        sections=[_picture(table), _rows(table)],
    )
    return write_page(path, page)


def table_rows(table: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the cells of each row in the order of `COLUMNS`; None where nothing was measured."""
    found = []
    for row in table["rows"]:
        latency = row["latency"] or {"median": None, "p95": None}
        found.append(
            (
                row["name"],
                row["value"],
                row["low"],
                row["high"],
                row["drop"],
                row["drop_low"],
                row["drop_high"],
                row["worst"],
                row["worst_value"],
                _rounded(row["megabytes"]),
                _rounded(latency["median"]),
                _rounded(latency["p95"]),
                _rounded(row["memory"], 0),
                row["stress"],
            )
        )
    return found


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)


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


def _rows(table: Mapping[str, Any]) -> Section | None:
    data = DataTable(COLUMNS, table_rows(table), text=("worst class",))
    note = (
        "from, to: 95 % interval over the images. lost: against the first bundle, on the same resamples of the images. "
        "ms: from the network input of one image to its objects or scores. memory: peak of a process that predicts."
    )
    return section("Variants", [{"table": data}], note)
