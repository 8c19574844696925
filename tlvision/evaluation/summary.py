"""Metrics as aligned plain text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_table(metrics: Mapping[str, Any]) -> str:
    """Return the overall numbers and the table per class, aligned with spaces.

    metrics: what `coco_map`, `instance_map` or `class_iou` returns, or `metrics.json` of a run. Fractions are shown
             with four digits, counts as integers, and "-" stands where there was nothing to measure.

    Raises KeyError where `metrics` holds neither "bbox", "segm" nor "semantic".

    >>> print(format_table({"semantic": {"mean_class_iou": 0.5, "pixel_accuracy": None}, "per_class": {}}))
    semantic
      mean_class_iou  0.5000
      pixel_accuracy       -
    """
    kinds = [kind for kind in ("bbox", "segm", "semantic") if kind in metrics]
    if not kinds:
        raise KeyError(f"metrics: expected one of 'bbox', 'segm', 'semantic', got {sorted(metrics)}")
    blocks = [_overall(kind, metrics[kind]) for kind in kinds]
    per_class = metrics.get("per_class") or {}
    if per_class:
        blocks.append(_per_class(per_class))
    notes = _notes(metrics)
    return "\n\n".join(blocks + ([notes] if notes else []))


def format_number(value: object) -> str:
    """Return a count as it is, a fraction with four digits, None as "-".

    >>> format_number(3), format_number(0.25), format_number(None)
    ('3', '0.2500', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _overall(kind: str, numbers: Mapping[str, Any]) -> str:
    rows = [(name, format_number(value)) for name, value in numbers.items()]
    return kind + "\n" + _align(rows)


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    columns = list(next(iter(per_class.values())))
    rows = [("class", *(column.replace("_", " ") for column in columns))]
    rows += [(name, *(format_number(row.get(column)) for column in columns)) for name, row in per_class.items()]
    return "per class\n" + _align(rows)


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _notes(metrics: Mapping[str, Any]) -> str:
    lines = []
    if metrics.get("absent_classes"):
        lines.append(f"left out of the mean (nothing to measure): {', '.join(metrics['absent_classes'])}")
    if metrics.get("counts"):
        lines.append(", ".join(f"{value} {name.replace('_', ' ')}" for name, value in metrics["counts"].items()))
    if "hash" in metrics.get("protocol", {}):
        lines.append(f"protocol {format_hash(metrics['protocol']['hash'])}")
    return "\n".join(lines)


def format_hash(value: object) -> str:
    """Return the hash of a protocol, or, where boxes and masks have one each, both.

    >>> format_hash("0a1b"), format_hash({"bbox": "0a1b", "segm": "2c3d"})
    ('0a1b', 'bbox 0a1b, segm 2c3d')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{kind} {number}" for kind, number in value.items())
    return str(value)
