"""Results by class, class balance and all numbers."""

from __future__ import annotations

from typing import Any

from tlvision.evaluation.summary import format_hash, headlines
from tlvision.report.page import Cell, DataTable, Section, flat, section
from tlvision.report.run_files import RunFiles, main_kind, mapping, pick

_COUNTS = ("ground_truths", "predictions")


def class_section(files: RunFiles) -> Section | None:
    """Return a table of what was measured of each class."""
    rows = {name: row for name, row in mapping(files.metrics, "per_class").items() if isinstance(row, dict)}
    if not rows:
        return None
    columns = list(next(iter(rows.values())))
    more = mapping(files.metrics, f"analysis.{main_kind(files)}.per_class")  # precision and recall of pixels
    extra = [key for key in ("precision", "recall") if any(key in row for row in more.values())]
    measured = [column for column in columns if column not in _COUNTS]
    heads = [*measured, *extra, *(column for column in columns if column in _COUNTS)]
    cells = [[name, *({**row, **mapping(more, name)}.get(head) for head in heads)] for name, row in rows.items()]
    absent = files.metrics.get("absent_classes")
    names = ", ".join(map(str, absent)) if isinstance(absent, list) else ""
    note = f"Left out of the mean (nothing to measure): {names}." if names else ""
    return section("Classes", [{"table": DataTable(["class", *heads], cells, measured[:1]), "text": note}])


def balance_section(files: RunFiles) -> Section | None:
    """Return the number of objects of each class in training and validation data."""
    train, val = (mapping(files.data, f"class_balance.{name}") for name in ("train", "val"))
    names = dict.fromkeys([*train, *val])
    rows: list[list[Cell]] = [[name, train.get(name), val.get(name)] for name in names]
    rows.sort(key=lambda row: -float(row[1] or 0))
    table = DataTable(
        ["class", "training objects", "validation objects"], rows, ["training objects", "validation objects"]
    )
    return section("Class balance", [{"table": table}]) if rows else None


def numbers_section(files: RunFiles) -> Section | None:
    """Return all overall numbers, counts and the protocol."""
    metrics = files.metrics
    overall = headlines(metrics)
    if not any(overall.values()):
        return None
    names = list(dict.fromkeys(key for numbers in overall.values() for key in numbers))
    cells: list[list[Any]] = [[name, *(numbers.get(name) for numbers in overall.values())] for name in names]
    about = [(name.replace("_", " "), str(value)) for name, value in mapping(metrics, "counts").items()]
    about += [
        (key, format_hash(pick(metrics, f"protocol.{key}")))
        for key in ("library", "hash")
        if pick(metrics, f"protocol.{key}")
    ]
    others = [
        {"details": key, "pairs": flat(metrics[key])} for key in ("source", "unlabelled") if mapping(metrics, key)
    ]
    return section("All numbers", [{"table": DataTable(["metric", *overall], cells)}, {"pairs": about}, *others])
