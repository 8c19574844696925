"""Figures of an evaluation as CSV files, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlvision.evaluation.summary import headlines

Table = tuple[Sequence[str], list[Sequence[Any]]]


def csv_files(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> content of the CSV files of an evaluation, UTF-8, with a header each.

    metrics: content of metrics.json.

    Files: overall.csv (kind, metric, value), per_class.csv, and for each kind in `analysis`, such as "bbox":
    bbox_thresholds, bbox_curves, bbox_sizes, bbox_confusion, bbox_calibration, bbox_error_kinds; for label maps
    semantic_confusion, semantic_per_class, semantic_border, semantic_worst_images. A cell is empty where nothing was
    measured.

    >>> csv_files({"bbox": {"AP": 0.5, "APs": None}, "per_class": {}})["overall.csv"].splitlines()
    ['kind,metric,value', 'bbox,AP,0.5', 'bbox,APs,']
    """
    overall: list[Sequence[Any]] = [
        (kind, name, value) for kind, numbers in headlines(metrics).items() for name, value in numbers.items()
    ]
    tables: dict[str, Table] = {"overall": (("kind", "metric", "value"), overall)}
    if metrics.get("per_class"):
        tables["per_class"] = _rows("class", metrics["per_class"])
    for kind, found in (metrics.get("analysis") or {}).items():
        sections = _label_maps(found) if kind == "semantic" else _objects(found)
        tables |= {f"{kind}_{name}": table for name, table in sections}
    return {f"{name}.csv": _text(*table) for name, table in tables.items()}


def _objects(found: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    point = found["operating_point"]
    yield "thresholds", _rows("class", {**point["per_class"], "": {"threshold": None, **point["all"]}})
    yield "curves", _curves(found["curves"])
    yield "sizes", _list(found["sizes"])
    yield "confusion", _list(found["confusion"])
    yield "calibration", _list(found["calibration"]["bins"])
    kinds = {name: row for name, row in found["error_kinds"].items() if isinstance(row, Mapping)}
    yield "error_kinds", _rows("kind", kinds)


def _label_maps(found: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    yield "confusion", _list(found["confusion"])
    yield "per_class", _rows("class", found["per_class"])
    yield "border", _rows("place", {place: found["border"][place] for place in ("near", "inside")})
    yield "worst_images", _list(found["images"]["worst"])


def _curves(curves: Mapping[str, Any]) -> Table:
    columns = list(curves["all"])
    rows = [
        (name, threshold, *(curve[column][position] for column in columns))
        for name, curve in {**curves["per_class"], "": curves["all"]}.items()
        for position, threshold in enumerate(curves["thresholds"])
    ]
    return ("class", "threshold", *columns), list(rows)


def _rows(first: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table with a row for each name, in the columns of all rows."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return (first, *columns), [(name, *(row.get(column) for column in columns)) for name, row in rows.items()]


def _list(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return tuple(columns), [[row.get(column) for column in columns] for row in rows]


def _text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()
