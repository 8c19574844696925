"""Show the table of an experiment as text: columns of a terminal, of CSV and Markdown, and a line for each trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlvision.evaluation.summary import format_number
from tlvision.experiment.plan import Plan
from tlvision.experiment.run_figures import REMEDY
from tlvision.experiment.trial_process import Outcome
from tlvision.files.json_files import read_object

_OPTIONAL = ("gap_closed", "source", "forgetting", "regret", "cost", "memory")
"""Columns that are shown where a row has a value other than 0."""


def columns_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns of the CSV and of the Markdown table, behind the name."""
    compared = ("difference", "low", "high", "verdict") if table["against"] else ()
    return ("count", "mean", "sd", "min", "max", *compared, "minutes", *_optional(table))


def short_columns_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those of a terminal, which is narrow: an interval for its ends, the number of runs where rows differ."""
    compared = ("difference", "interval", "verdict") if table["against"] else ()
    more = [key for key in _optional(table) if key != "memory"]
    count = ("count",) if len({row["count"] for row in table["rows"]}) > 1 else ()
    return (*count, "mean", "sd", *compared, *more, "minutes")


def _optional(table: Mapping[str, Any]) -> list[str]:
    return [key for key in _OPTIONAL if any(row[key] for row in table["rows"])]


def cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Return a row of table.json as text."""
    return [_cell(row, key) for key in columns]


def _cell(row: Mapping[str, Any], key: str) -> str:
    if key == "interval":
        return "-" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"
    return _FORMATS[key](row[key]) if key in _FORMATS else format_number(row[key])


def _format(pattern: str) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None else pattern.format(value)


_FORMATS = {
    "minutes": _format("{:.1f}"),
    "difference": _format("{:+.4f}"),
    "gap_closed": _format("{:.0%}"),
    "cost": _format("{:.2f}"),
    "memory": _format("{:.0f}"),
}


def as_markdown(table: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    columns = columns_of(table)
    lines = ["| " + " | ".join([table["metric"], *columns]) + " |", "|" + "---|" * (len(columns) + 1)]
    lines += [
        "| " + " | ".join([row["name"].replace("|", "\\|"), *cells(row, columns)]) + " |" for row in table["rows"]
    ]
    return "\n".join(lines) + "\n"


def as_lines(plan: Plan, outcomes: Mapping[str, Outcome]) -> str:
    """Return results.jsonl: a line for each point with trial, folder, metrics, seconds and error."""
    lines = []
    for point, trial_id in plan.points:
        outcome = outcomes[trial_id]
        metrics: Any = None if outcome.error else read_object(outcome.trial.folder / "metrics.json", REMEDY)
        kinds = {} if metrics is None else {key: value for key, value in metrics.items() if isinstance(value, dict)}
        line = {
            "point": dict(point),
            "trial": trial_id,
            "run": str(outcome.trial.folder),
            "status": "failed" if outcome.error else "finished",
            "error": outcome.error,
            "seconds": outcome.seconds,
            "metrics": kinds.get(plan.metric.name.split("/")[0]),
        }
        lines.append(json.dumps(line))
    return "\n".join(lines) + "\n"
