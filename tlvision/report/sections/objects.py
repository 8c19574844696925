"""Operating point, errors and calibration of predicted objects, from `analysis` in metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.error_kinds import KINDS
from tlvision.evaluation.score_map import fitted_in_words
from tlvision.report.figures import Line, heat_map, line_chart, reliability_diagram
from tlvision.report.page import Cell, DataTable, Section, section
from tlvision.report.run_files import RunFiles, main_kind, mapping, pick
from tlvision.types import Json

_UNIT = (-0.02, 1.02)
MAX_LINES = 6
"""Classes with a line of their own: as many as there are colours."""
MAX_CELLS = 14
"""Classes in a confusion matrix; of more, those with the most mistakes are shown."""
_KINDS = {"bbox": "boxes", "segm": "masks"}
BACKGROUND = "background"
_POINT = ("threshold", "precision", "recall", "f1", "objects", "false_positives", "missed", "false_positives_per_image")


def operating_section(files: RunFiles) -> Section | None:
    """Return precision, recall and F1 with the chosen thresholds, which are those of the main kind."""
    blocks: list[dict[str, Any]] = []
    for found in list(_object_kinds(files).values())[:1]:
        point, curves = found["operating_point"], found["curves"]
        blocks.append({"text": _rule(point), "charts": _curves(point, curves)})
        notes = {
            "all classes": point.get("note"),
            **{name: row.get("note") for name, row in point["per_class"].items()},
        }
        blocks.append(
            {"table": _point_table(point), "notes": [f"{name}: {note}" for name, note in notes.items() if note]}
        )
    return section("Operating point", blocks)


def _object_kinds(files: RunFiles) -> dict[str, Any]:
    """Return the kinds of analysis that have objects, boxes and masks, the main one first."""
    main = main_kind(files)
    kinds = dict(sorted(mapping(files.metrics, "analysis").items(), key=lambda item: item[0] != main))
    return {kind: found for kind, found in kinds.items() if pick(found, "operating_point.per_class") is not None}


def _title(files: RunFiles, title: str, kind: str) -> str:
    kinds = _object_kinds(files)
    if len(kinds) < 2:
        return title
    return f"{title} ({_KINDS.get(kind, kind)})"


def _rule(point: Json) -> str:
    rule = str(point["rule"])
    chosen = rule if "threshold" in rule else f"Thresholds for {rule}"
    row = point["all"]
    return (
        f"{chosen}, at IoU {point['iou']:g}: precision {_share(row['precision'])}, recall {_share(row['recall'])} and "
        f"{_share(row['false_positives_per_image'])} false positives per image over all classes."
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _curves(point: Json, curves: Json) -> list[tuple[str, str]]:
    rows = point["per_class"]
    names = sorted(rows, key=lambda name: -rows[name]["objects"])[:MAX_LINES]
    names = [name for name in curves["per_class"] if name in names and rows[name]["objects"]]
    scores = curves["thresholds"]
    precision, f1 = [], []
    for colour, name in enumerate(names):
        curve = curves["per_class"][name]
        # Thresholds that leave no detection have no precision; a lower one with equal recall is the same point.
        precision.append(Line(name, curve["recall"], curve["precision"], colour))
        f1.append(Line(name, scores, curve["f1"], colour))
        precision.append(Line("", [rows[name]["recall"]], [rows[name]["precision"]], colour, marks=True))
        f1.append(Line("", [rows[name]["threshold"]], [rows[name]["f1"]], colour, marks=True))
    shown = "" if len(rows) <= MAX_LINES else f", {MAX_LINES} classes with the most objects"
    return [
        (
            f"Precision and recall{shown}; dots: operating point",
            line_chart(precision, x_label="recall", y_label="precision", x_range=_UNIT, y_range=_UNIT),
        ),
        (
            f"F1 by threshold{shown}",
            line_chart(f1, x_label="score threshold", y_label="F1", x_range=_UNIT, y_range=_UNIT),
        ),
    ]


def _point_table(point: Json) -> DataTable:
    rows: list[list[Cell]] = [[name, *(row.get(key) for key in _POINT)] for name, row in point["per_class"].items()]
    if len(rows) > 1:
        rows.append(["all", *(point["all"].get(key) for key in _POINT)])
    return DataTable(["class", *_POINT], [[_rounded(cell) for cell in row] for row in rows])


def _rounded(cell: Cell) -> Cell:
    return round(cell, 4) if isinstance(cell, float) else cell


def errors_section(files: RunFiles) -> Section | None:
    """Return the cost of each kind of error, the confusion, and results by size."""
    blocks: list[dict[str, Any]] = []
    for kind, found in _object_kinds(files).items():
        kinds = found["error_kinds"]
        order = sorted(KINDS, key=lambda name: -(kinds[name]["AP50_lost"] or 0.0))
        rows = [[name, kinds[name]["AP50_lost"], kinds[name]["count"]] for name in order]
        table = DataTable(["kind of error", "AP50 lost", "number"], rows, ["AP50 lost"])
        text = "What AP50 would gain if only these errors were repaired. The number counts detections of every score."
        blocks.append({"title": _title(files, "Kinds of errors", kind), "text": text, "table": table})
        title = _title(files, "Confusion", kind)
        blocks += confusion_blocks(
            found["confusion"],
            list(found["operating_point"]["per_class"]),
            title,
            f"{title} at the operating point",
            "objects",
        )
        blocks += _sizes(files, kind, found.get("sizes"))
    return section("Errors", blocks)


def confusion_blocks(
    cells: Sequence[Json], order: Sequence[str], title: str, caption: str, unit: str
) -> list[dict[str, Any]]:
    """Return a heat map of a confusion, and a table of the most frequent mistakes.

    cells: truth, predicted (names, None for background) and count. order: of the classes. unit: of the counts.
    """
    mistakes = [cell for cell in cells if cell["truth"] != cell["predicted"]]
    names, labels, counts = _matrix(cells, mistakes, order)
    if len(labels) - labels.count(BACKGROUND) < len(names):
        caption += f", {MAX_CELLS} of {len(names)} classes, those with the most mistakes"
    rows: list[list[Cell]] = [
        [cell["truth"] or BACKGROUND, cell["predicted"] or BACKGROUND, cell["count"]] for cell in mistakes[:20]
    ]
    chart = heat_map(counts, labels, labels, x_label="predicted", y_label="ground truth") if labels else ""
    table = DataTable(["ground truth", "predicted", unit], rows, [unit], ["predicted"])
    return [
        {"title": title, "charts": [(caption, chart)] if chart else []},
        {"details": f"The {len(rows)} most frequent mistakes", "table": table if rows else None},
    ]


def _matrix(
    cells: Sequence[Json], mistakes: Sequence[Json], order: Sequence[str]
) -> tuple[list[str], list[str], npt.NDArray[np.int64]]:
    """Return the classes that occur, the rows that are shown, and their counts, truth by prediction."""
    weight: dict[str | None, int] = {cell[side]: 0 for cell in cells for side in ("truth", "predicted")}
    for cell in mistakes:
        for side in ("truth", "predicted"):
            weight[cell[side]] += cell["count"]
    names = [name for name in order if name in weight]
    chosen = {*sorted(names, key=lambda name: -weight[name])[:MAX_CELLS]}
    shown: list[str | None] = [name for name in names if name in chosen]
    shown += [None] if None in weight else []
    rows = {name: place for place, name in enumerate(shown)}
    counts = np.zeros((len(rows), len(rows)), np.int64)
    for cell in cells:
        if cell["truth"] in rows and cell["predicted"] in rows:
            counts[rows[cell["truth"]], rows[cell["predicted"]]] = cell["count"]
    return names, [name or BACKGROUND for name in rows], counts


def _sizes(files: RunFiles, kind: str, rows: Any) -> list[dict[str, Any]]:
    """Return results by size; rows have from and to (side of a square with the area of the object, in pixels)."""
    if not isinstance(rows, list) or not rows:
        return []
    columns = [key for key in rows[0] if key not in ("from", "to")]
    cells = [[_size_range(row), *(_rounded(row.get(column)) for column in columns)] for row in rows]
    table = DataTable(["size in pixels", *columns], cells)
    return [{"title": _title(files, "Sizes", kind), "table": table}]


def _size_range(row: Json) -> str:
    low, high = row["from"], row["to"]
    return f"{low:.0f} and more" if high is None else f"{low:.0f} to {high:.0f}"


def calibration_section(files: RunFiles) -> Section | None:
    """Return the reliability diagram of the main kind."""
    blocks: list[dict[str, Any]] = []
    for found in list(_object_kinds(files).values())[:1]:
        measured = found["calibration"]
        chart = reliability_diagram(measured["bins"])
        if not chart or measured["error"] is None:
            continue
        rows: list[list[Cell]] = [
            [name, row["error"], row["detections"]] for name, row in measured["per_class"].items()
        ]
        text = (
            f"Calibration error {measured['error']:.3f}: mean distance between score and share of right detections, "
            f"of detections with a score of {measured['min_score']:g} or more. On the dashed line the scores are "
            "calibrated; below it they are too high."
        )
        if "fitted" in measured:
            text += f" The {fitted_in_words(measured['fitted'])}."
        blocks.append({"text": text, "charts": [("", chart)]})
        blocks.append({"details": "By class", "table": DataTable(["class", "calibration error", "detections"], rows)})
    return section("Calibration", blocks)
