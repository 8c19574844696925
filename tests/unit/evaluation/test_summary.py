"""The terminal table shows every number, aligned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from tlvision.evaluation import class_iou, coco_map, format_table, instance_map


def test_detection_table(truth: Any, results: Any, write_files: Any) -> None:
    metrics = coco_map(*write_files(truth, results))
    lines = format_table(metrics).splitlines()
    assert lines[0] == "bbox"
    assert lines[1] == "  AP     1.0000"
    assert lines[6] == "  APl         -"
    assert [line.split()[0] for line in lines[1:13]] == list(metrics["bbox"])
    assert len({len(line) for line in lines[1:13]}) == 1
    rows = lines[15:18]
    assert rows[0].split() == ["class", "AP", "AP50", "AR100", "ground", "truths", "predictions"]
    assert rows[1].split() == ["cell", "1.0000", "1.0000", "1.0000", "2", "2"]
    assert rows[2].split() == ["dust", "-", "-", "-", "0", "0"]
    assert len({len(row) for row in rows}) == 1
    assert "excluded from the mean (nothing to measure): dust" in lines
    assert f"protocol {metrics['protocol']['hash']}" in lines


def test_table_of_boxes_and_masks(truth: Any, results: Any, write_files: Any) -> None:
    for item in (*truth["annotations"], *results):
        x, y, width, height = item["bbox"]
        outline = [x, y, x + width, y, x + width, y + height, x, y + height]
        item["segmentation"] = coco_mask.frPyObjects([outline], 100, 120)[0]
        item["segmentation"]["counts"] = item["segmentation"]["counts"].decode()
    metrics = instance_map(*write_files(truth, results))
    lines = format_table(metrics).splitlines()
    assert lines[:2] == ["bbox", "  AP     1.0000"]
    assert lines[14:16] == ["segm", "  AP     1.0000"]
    rows = lines[29:32]
    assert rows[0].split()[:4] == ["class", "bbox/AP", "bbox/AP50", "bbox/AR100"]
    assert rows[1].split() == ["cell", *["1.0000"] * 6, "2", "2"]
    assert f"protocol bbox {metrics['protocol']['hash']['bbox']}, segm {metrics['protocol']['hash']['segm']}" in lines


def test_semantic_table() -> None:
    table = format_table(
        class_iou([(np.eye(2, dtype=int), np.eye(2, dtype=int))], ["road", "car", "a long class name"])
    )
    assert "  mean_class_iou          1.0000" in table
    assert "  a long class name       -" in table


def test_metrics_of_no_known_kind() -> None:
    with pytest.raises(KeyError, match="expected overall numbers"):
        format_table({"loss": 3})
