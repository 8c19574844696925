"""The page of a comparison: every arm's values as dots, the table, and what chose the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

from tlvision.files.json_files import write_text
from tlvision.report.page import page, section, table

_WIDTH, _ROW, _LEFT, _RIGHT = 760, 30, 220, 20
_METHOD, _REFERENCE = "#0072b2", "#777"


def write_adapt_page(folder: Path, result: dict[str, Any]) -> Path:
    """Write `adapt.html` into `folder` and return its path.

    result: what `tlvision.experiment.adapt.adapt` returns.
    """
    rows = [row for row in result["rows"] if row["values"]]
    notes = [f"<p>{escape(row['name'])}: {escape(row['note'])}</p>" for row in result["rows"] if row["note"]]
    seeds = ", ".join(str(seed) for seed in result["seeds"])
    header = (
        f"<header><h1>Domain adaptation</h1><p class='sub'>{escape(result['metric'])} on the target's labels · seeds "
        f"{escape(seeds)}</p></header>"
    )
    sections = [
        header,
        section(f"{result['metric']} on the target", _dots(rows)),
        section("Table", _table(result["rows"])),
        section("How the checkpoint was chosen", _selection(rows)),
        section("Quality of the pseudo-labels", _pseudo_labels(rows)),
        section("Notes", "".join(notes)),
    ]
    path = folder / "adapt.html"
    write_text(path, page("Domain adaptation: tlvision", sections))
    return path


def _dots(rows: Sequence[dict[str, Any]]) -> str:
    """Return a figure with a line for each arm: a dot a seed, a bar at the mean.

    Methods are blue, best mean first, between their baselines, which have a dashed line through all rows.
    """
    if not rows:
        return ""
    methods = sorted((row for row in rows if row["kind"] == "method"), key=lambda row: -row["mean"])
    before = [row for row in rows if row["kind"] in {"zero_shot", "source_only"}]
    rows = [*before, *methods, *(row for row in rows if row["kind"] == "oracle")]
    values = [value for row in rows for value in row["values"]]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.01
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return float(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT))

    height = _ROW * (len(rows) + 1)
    parts = [
        f'<line x1="{place(row["mean"]):.1f}" x2="{place(row["mean"]):.1f}" y1="0" y2="{height - _ROW}" stroke="#999" '
        'stroke-dasharray="4 4"/>'
        for row in rows
        if row["kind"] in {"source_only", "oracle"}
    ]
    for number, row in enumerate(rows):
        y = _ROW * (number + 0.5)
        colour = _METHOD if row["kind"] == "method" else _REFERENCE
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(row["name"])}</text>')
        for value in row["values"]:
            parts.append(
                f'<circle cx="{place(value):.1f}" cy="{y}" r="5" fill="{colour}"><title>{value:.4f}</title></circle>'
            )
        x = place(row["mean"])
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9}" y2="{y + 9}" stroke="#222" stroke-width="2"/>')
    for value in (low + margin, (low + high) / 2, high - margin):
        parts.append(f'<text x="{place(value):.1f}" y="{height - 8}" text-anchor="middle">{value:.3f}</text>')
    return f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg></figure>'


def _table(rows: Sequence[dict[str, Any]]) -> str:
    header = ("arm", "mean", "min", "max", "gap closed", "source", "forgetting", "seeds")
    return table(
        header,
        [
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
        ],
    )


def _pseudo_labels(rows: Sequence[dict[str, Any]]) -> str:
    """Return precision and recall of the final teachers' labels on the target's training images, over thresholds."""
    parts = []
    for row in rows:
        if row["pseudo_labels"]:
            per_class = row["pseudo_labels"]["per_class"]
            groups = {"all": row["pseudo_labels"]["all"]} | {name: per_class[name]["thresholds"] for name in per_class}
            keys = ("threshold", "pseudo_labels", "precision", "recall", "mean_iou")
            body = [(name, *(line[key] for key in keys)) for name, lines in groups.items() for line in lines]
            header = ("class", *(key.replace("_", " ") for key in keys))
            parts.append(f"<details><summary>{escape(row['name'])}</summary>{table(header, body)}</details>")
    return "".join(parts)


def _selection(rows: Sequence[dict[str, Any]]) -> str:
    """Return the metric that selected the checkpoint, and the gain of selecting by target labels."""
    shown = [
        (
            row["name"],
            row["selected_by"],
            "yes" if row["selected_by"].startswith("target/") else "no",
            mean(abs(best - value) for best, value in zip(row["best"], row["values"], strict=True)),
        )
        for row in rows
    ]
    return "<p>Regret: how far the chosen epoch is from the best evaluated one, by the target's labels.</p>" + table(
        ("arm", "chosen by", "saw target labels", "mean regret"), shown
    )
