"""CSV files hold what metrics.json holds, row for row."""

from __future__ import annotations

import csv
import io
from typing import Any

from tlvision.evaluation import Analysis, coco_map, csv_files

FILES = {"overall", "per_class", *(f"bbox_{name}" for name in ("thresholds", "curves", "sizes", "confusion"))}
FILES |= {"bbox_calibration", "bbox_error_kinds"}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_figure_has_a_cell(write_files: Any, truth: Any, results: Any) -> None:
    truth["categories"][0]["name"] = 'cell, "round"'
    metrics = coco_map(*write_files(truth, results), analysis=Analysis())
    files = csv_files(metrics)
    assert {name.removesuffix(".csv") for name in files} == FILES
    overall = {(row["kind"], row["metric"]): row["value"] for row in rows_of(files["overall.csv"])}
    assert overall["bbox", "AP"] == "1.0"
    assert overall["bbox", "APl"] == ""  # not measured
    found = metrics["analysis"]["bbox"]
    classes = {row["class"]: row for row in rows_of(files["bbox_thresholds.csv"])}
    assert set(classes) == {'cell, "round"', "dust", ""}
    assert classes['cell, "round"']["f1"] == "1.0"
    curves = rows_of(files["bbox_curves.csv"])
    assert len(curves) == 3 * 101
    assert [row["recall"] for row in curves[:101]] == [
        str(v) for v in found["curves"]["per_class"]['cell, "round"']["recall"]
    ]
    assert sum(int(row["count"]) for row in rows_of(files["bbox_confusion.csv"])) == 2
