"""The page of `tlvision compare`: each metric's difference with its interval, the verdicts, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.report.figures import dot_plot
from tlvision.report.page import DataTable, Page, Section, section, write_page

MOST_ROWS = 30
"""Metrics in the chart of a side; the table has all."""
_COLOURS = {"better": 2, "worse": 1}  # places in figures.SERIES: green, orange; all others are blue


def write_compare_page(path: Path, content: Mapping[str, Any], sentences: Sequence[str]) -> Path:
    """Write the page and return its path.

    content:   what `tlvision.experiment.compare.Comparison.to_json` returns.
    sentences: the verdict on each side but the first.
    """
    reference, *others = content["sides"]
    page = Page(
        title=f"Compared with {reference['name']}",
        answer=sentences[0],
        details=sentences[1:],
        facts=[("images", f"{content['images']:,}"), ("resamples", f"{content['repeats']:,}")],
        sections=[part for side in others for part in _sections(side, reference)] + [_runs(content["sides"])],
    )
    return write_page(path, page)


def _sections(side: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Section | None]:
    rows = side["metrics"]
    table = DataTable(
        ("metric", reference["name"], side["name"], "difference", "from", "to", "verdict"),
        [
            (metric, row["reference"], row["other"], row["difference"], row["low"], row["high"], row["verdict"])
            for metric, row in rows.items()
        ],
        text=("verdict",),
    )
    changes = [(key, f"{before} \u2192 {after}") for key, (before, after) in side["changes"].items()]
    note = "Difference and 95 % interval of a paired bootstrap over images and seeds; not corrected for many classes."
    blocks: list[Mapping[str, Any]] = [
        {"charts": [("A dot at the difference, a line for its interval", _chart(rows))]},
        {"title": "All metrics", "table": table},
        {"title": "Changed in the config", "pairs": changes},
    ]
    return [section(side["name"], blocks, note)]


def _chart(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the metrics over all classes, and of the classes those that differ most."""
    measured = {metric: row for metric, row in rows.items() if row["low"] is not None}
    order = sorted(measured, key=lambda metric: (" " in metric, -abs(measured[metric]["difference"])))[:MOST_ROWS]
    return dot_plot(
        [(metric, [measured[metric]["difference"]], _COLOURS.get(measured[metric]["verdict"], 0)) for metric in order],
        [0.0],
        x_label="difference",
        intervals=[(measured[metric]["low"], measured[metric]["high"]) for metric in order],
    )


def _runs(sides: Sequence[Mapping[str, Any]]) -> Section | None:
    return section("Runs", [{"pairs": [(side["name"], ", ".join(side["runs"])) for side in sides]}])
