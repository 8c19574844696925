"""Figures of an evaluation as CSV files, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlvision.evaluation.summary import headlines
from tlvision.types import leaves

Table = tuple[Sequence[str], list[Sequence[Any]]]


def csv_files(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> content of the CSV files of an evaluation, UTF-8, with a header each.

    metrics: content of metrics.json.

    Files: overall.csv (kind, metric, value, and the 95 % interval where there is one), per_class.csv, and one for each
    section of each kind in `analysis`: bbox_thresholds, bbox_curves, bbox_sizes, bbox_confusion, bbox_calibration,
    bbox_error_kinds; for label maps semantic_confusion, semantic_per_class, semantic_border, semantic_worst_images. A
    cell is empty where nothing was measured.

    >>> csv_files({"bbox": {"AP": 0.5, "APs": None}, "per_class": {}})["overall.csv"].splitlines()
    ['kind,metric,value,low,high', 'bbox,AP,0.5,,', 'bbox,APs,,,']
    """
    intervals = metrics.get("intervals") or {}
    overall: list[Sequence[Any]] = [
        (kind, name, value, *intervals.get(f"{kind}/{name}", (None, None)))
        for kind, numbers in headlines(metrics).items()
        for name, value in numbers.items()
    ]
    tables: dict[str, Table] = {"overall": (("kind", "metric", "value", "low", "high"), overall)}
    if metrics.get("per_class"):
        tables["per_class"] = _rows("class", metrics["per_class"])
    for kind, found in (metrics.get("analysis") or {}).items():
        for section, content in found.items():
            name, layout = _SECTIONS.get(section, (section, _any))
            tables[f"{kind}_{name}"] = layout(content)
    return {f"{name}.csv": _text(*table) for name, table in tables.items()}


def _thresholds(point: Mapping[str, Any]) -> Table:
    return _rows("class", {**point["per_class"], "": {"threshold": None, **point["all"]}})


def _curves(curves: Mapping[str, Any]) -> Table:
    columns = list(curves["all"])
    rows = [
        (name, threshold, *(curve[column][position] for column in columns))
        for name, curve in {**curves["per_class"], "": curves["all"]}.items()
        for position, threshold in enumerate(curves["thresholds"])
    ]
    return ("class", "threshold", *columns), list(rows)


def _error_kinds(found: Mapping[str, Any]) -> Table:
    return _rows("kind", {name: row for name, row in found.items() if isinstance(row, Mapping)})


def _border(found: Mapping[str, Any]) -> Table:
    return _rows("place", {place: found[place] for place in ("near", "inside")})


def _any(found: Any) -> Table:
    """Return a section that has no layout of its own: of a task of another package."""
    return ("key", "value"), [[key, value] for key, value in leaves(found)]


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


_SECTIONS: dict[str, tuple[str, Callable[[Any], Table]]] = {
    "operating_point": ("thresholds", _thresholds),
    "curves": ("curves", _curves),
    "sizes": ("sizes", _list),
    "confusion": ("confusion", _list),
    "calibration": ("calibration", lambda found: _list(found["bins"])),
    "error_kinds": ("error_kinds", _error_kinds),
    "per_class": ("per_class", lambda found: _rows("class", found)),
    "border": ("border", _border),
    "images": ("worst_images", lambda found: _list(found["worst"])),
}
"""Section of an analysis -> name of its file, and its layout."""
