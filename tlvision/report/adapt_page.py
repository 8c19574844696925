"""The page of a comparison: every arm's values as dots, the table, and what chose the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from tlvision.report.figures import dot_plot
from tlvision.report.page import DataTable, Page, Section, section, write_page

Rows = Sequence[dict[str, Any]]


def write_adapt_page(folder: Path, result: dict[str, Any]) -> Path:
    """Write `adapt.html` into `folder` and return its path.

    result: what `tlvision.experiment.adapt.adapt` returns.
    """
    rows = [row for row in result["rows"] if row["values"]]
    notes = [f"{row['name']}: {row['note']}" for row in result["rows"] if row["note"]]
    page = Page(
        title="Domain adaptation",
        answer=_answer(rows, result["metric"]),
        facts=[
            ("metric", f"{result['metric']} on the target's labels"),
            ("seeds", ", ".join(map(str, result["seeds"]))),
        ],
        sections=[
            section(
                "Arms",
                [{"charts": [("A dot a seed, a bar at the mean", _dots(rows, result["metric"]))]}] if rows else [],
            ),
            section("Table", [{"table": _table(result["rows"])}]),
            _selection(rows),
            _pseudo_labels(rows),
            section("Notes", [{"notes": notes}] if notes else []),
        ],
    )
    return write_page(folder / "adapt.html", page)


def _answer(rows: Rows, metric: str) -> str:
    """Return the best method and its mean beside source-only; "" if no method was measured."""
    methods = [row for row in rows if row["kind"] == "method"]
    if not methods:
        return ""
    best = max(methods, key=lambda row: row["mean"])
    base = next((row for row in rows if row["kind"] == "source_only"), None)
    sentence = f"{best['name']} has the highest mean of {len(methods)} method(s): {metric} {best['mean']:.3f}"
    if base is None:
        return f"{sentence}."
    gap = best["mean"] - base["mean"]
    return f"{sentence}, {abs(gap):.3f} {'more' if gap >= 0 else 'less'} than source-only."


def _dots(rows: Rows, metric: str) -> str:
    """Return a chart with a row for each arm: methods, best mean first, between their baselines."""
    methods = sorted((row for row in rows if row["kind"] == "method"), key=lambda row: -row["mean"])
    before = [row for row in rows if row["kind"] in {"zero_shot", "source_only"}]
    ordered = [*before, *methods, *(row for row in rows if row["kind"] == "oracle")]
    references = [row["mean"] for row in rows if row["kind"] in {"source_only", "oracle"}]
    return dot_plot(
        [(row["name"], row["values"], 0 if row["kind"] == "method" else 4) for row in ordered],
        references,
        x_label=metric,
    )


def _table(rows: Rows) -> DataTable:
    heads = ("arm", "mean", "min", "max", "gap closed", "source", "forgetting", "seeds")
    cells = [
        (
            row["name"],
            "not measured" if row["runs"] and not row["values"] else row["mean"],
            row["low"],
            row["high"],
            "-" if row["gap_closed"] is None else f"{100 * row['gap_closed']:.0f} %",
            mean(row["source"]) if row["source"] else None,
            row["forgetting"],
            " ".join(f"{value:.4f}" for value in row["values"]),
        )
        for row in rows
    ]
    return DataTable(heads, cells)


def _pseudo_labels(rows: Rows) -> Section | None:
    """Return precision and recall of the final teachers' labels on the target's training images, over thresholds."""
    blocks = []
    for row in rows:
        if row["pseudo_labels"]:
            per_class = row["pseudo_labels"]["per_class"]
            groups = {"all": row["pseudo_labels"]["all"]} | {name: per_class[name]["thresholds"] for name in per_class}
            keys = ("threshold", "pseudo_labels", "precision", "recall", "mean_iou")
            body = [(name, *(line[key] for key in keys)) for name, lines in groups.items() for line in lines]
            blocks.append({"details": row["name"], "table": DataTable(("class", *keys), body)})
    return section("Quality of the pseudo-labels", blocks)


def _selection(rows: Rows) -> Section | None:
    """Return the metric that selected the checkpoint, and the gain of selecting by target labels."""
    cells = [
        (
            row["name"],
            row["selected_by"],
            "yes" if row["selected_by"].startswith("target/") else "no",
            mean(abs(best - value) for best, value in zip(row["best"], row["values"], strict=True)),
        )
        for row in rows
    ]
    heads = ("arm", "chosen by", "saw target labels", "mean regret")
    text = "Regret: how far the chosen epoch is from the best evaluated one, by the target's labels."
    block = {"text": text, "table": DataTable(heads, cells, text=("chosen by", "saw target labels"))}
    return section("How the checkpoint was chosen", [block] if cells else [])
