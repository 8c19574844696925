"""Pseudo-labels against labels: hand-made cases, and an independent slow loop."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tlvision.evaluation import pseudo_label_quality
from tlvision.evaluation.pseudo_labels import THRESHOLDS, format_quality
from tlvision.types import InputError


def row(quality: dict[str, Any], name: str, threshold: float) -> dict[str, Any]:
    rows = quality["per_class"][name]["thresholds"]
    return next(row for row in rows if row["threshold"] == threshold)


def test_all_right(truth: Any, results: Any, write_files: Any) -> None:
    quality = pseudo_label_quality(*write_files(truth, results))
    assert row(quality, "cell", 0.8) == {
        "threshold": 0.8, "pseudo_labels": 2, "right": 2, "precision": 1.0, "recall": 1.0, "mean_iou": 1.0,
    }  # fmt: skip
    assert row(quality, "cell", 0.9)["recall"] == 0.5  # a score equal to the threshold counts
    assert row(quality, "dust", 0.1) == {
        "threshold": 0.1, "pseudo_labels": 0, "right": 0, "precision": None, "recall": None, "mean_iou": None,
    }  # fmt: skip
    assert quality["counts"] == {"images": 2, "ground_truths": 2, "predictions": 2}
    assert quality["all"][0]["right"] == 2
    assert json.loads(json.dumps(quality)) == quality


def test_a_threshold_trades_recall_for_precision(truth: Any, results: Any, write_files: Any) -> None:
    results.append({"image_id": 11, "category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.85})
    quality = pseudo_label_quality(*write_files(truth, results))
    assert row(quality, "cell", 0.8)["precision"] == pytest.approx(2 / 3)
    assert row(quality, "cell", 0.9) == {
        "threshold": 0.9, "pseudo_labels": 1, "right": 1, "precision": 1.0, "recall": 0.5, "mean_iou": 1.0,
    }  # fmt: skip


def test_an_object_is_found_once_and_the_best_score_has_it(truth: Any, results: Any, write_files: Any) -> None:
    results.append({"image_id": 10, "category_id": 3, "bbox": [10, 10, 20, 24], "score": 0.95})  # IoU 0.8, better score
    found = row(pseudo_label_quality(*write_files(truth, results)), "cell", 0.1)
    assert (found["pseudo_labels"], found["right"]) == (3, 2)
    assert found["mean_iou"] == pytest.approx((0.8 + 1) / 2)


def test_iou_of_a_half_is_the_least(truth: Any, results: Any, write_files: Any) -> None:
    results[0]["bbox"] = [10, 10, 20, 15]  # IoU exactly 0.5
    results[1]["bbox"] = [60, 10, 50, 19]
    assert row(pseudo_label_quality(*write_files(truth, results)), "cell", 0.1)["right"] == 1
    assert row(pseudo_label_quality(*write_files(truth, results), iou=0.51), "cell", 0.1)["right"] == 0


def test_a_crowd_neither_rewards_nor_punishes(truth: Any, results: Any, write_files: Any) -> None:
    truth["annotations"][1]["iscrowd"] = 1
    results += [{"image_id": 10, "category_id": 3, "bbox": [70, 15, 10, 10], "score": 0.99}] * 3
    found = row(pseudo_label_quality(*write_files(truth, results)), "cell", 0.1)
    assert (found["pseudo_labels"], found["right"], found["recall"]) == (1, 1, 1.0)


def test_another_class_at_the_same_place_is_wrong(truth: Any, results: Any, write_files: Any) -> None:
    results[0]["category_id"] = 90
    quality = pseudo_label_quality(*write_files(truth, results))
    dust = row(quality, "dust", 0.1)
    assert (dust["pseudo_labels"], dust["right"]) == (1, 0)
    assert dust["precision"] is None, "without an object of the class nothing is measured"
    assert row(quality, "cell", 0.1)["recall"] == 0.5


def slow(truth: Any, results: Any, category: int, threshold: float) -> tuple[int, int, float]:
    """Count again for every threshold, box by box; returns pseudo-labels, right ones and the sum of their IoUs."""

    def overlap(a: Any, b: Any, crowd: int) -> float:
        width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        if width <= 0 or height <= 0:
            return 0.0
        both = width * height
        return both / (a[2] * a[3]) if crowd else both / (a[2] * a[3] + b[2] * b[3] - both)

    kept = [r for r in results if r["category_id"] == category and r["score"] >= threshold]
    taken: set[int] = set()
    total, right, ious = 0, 0, 0.0
    for result in sorted(kept, key=lambda r: -r["score"]):
        here = [a for a in truth["annotations"] if (a["image_id"], a["category_id"]) == (result["image_id"], category)]
        best, which = 0.0, None
        for a in here:
            value = overlap(result["bbox"], a["bbox"], 0)
            if not a["iscrowd"] and a["id"] not in taken and value >= 0.5 and value > best:
                best, which = value, a["id"]
        if which is not None:
            taken.add(which)
            total, right, ious = total + 1, right + 1, ious + best
        elif not any(a["iscrowd"] and overlap(result["bbox"], a["bbox"], 1) >= 0.5 for a in here):
            total += 1
    return total, right, ious


@pytest.mark.parametrize("seed", range(3))
def test_random_boxes_agree_with_a_slow_loop(seed: int, write_files: Any) -> None:
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [{"id": number} for number in range(1, 9)],
        "categories": [{"id": 1, "name": "a"}, {"id": 5, "name": "b"}],
        "annotations": [],
    }
    results = []
    for number in range(1, 121):
        box = [*rng.integers(0, 40, 2).tolist(), *rng.integers(8, 30, 2).tolist()]
        image, category = int(rng.integers(1, 9)), int(rng.choice([1, 5]))
        truth["annotations"].append(
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": int(rng.random() < 0.1)}
        )
        for _ in range(2):
            moved = [float(v) for v in np.array(box) + rng.integers(0, 6, 4)]
            results.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": moved,
                    "score": float(rng.integers(0, 1000) / 1000),
                }
            )
    quality = pseudo_label_quality(*write_files(truth, results))
    matched = 0
    for name, category in (("a", 1), ("b", 5)):
        objects = sum(a["category_id"] == category and not a["iscrowd"] for a in truth["annotations"])
        for threshold in THRESHOLDS:
            found = row(quality, name, threshold)
            total, right, ious = slow(truth, results, category, threshold)
            assert (found["pseudo_labels"], found["right"]) == (total, right)
            assert found["recall"] == pytest.approx(right / objects)
            assert found["mean_iou"] == pytest.approx(ious / right if right else None)
            matched += right
    assert matched > 100
    together = quality["all"][0]
    assert together["right"] == sum(row(quality, name, 0.1)["right"] for name in "ab")


@pytest.mark.parametrize("wrong", [[], [0.5, 0.3], [0.3, 0.3], [-0.1, 0.5], [0.5, 1.5]])
def test_thresholds_must_ascend_within_0_and_1(wrong: Any, truth: Any, results: Any, write_files: Any) -> None:
    with pytest.raises(InputError, match="thresholds"):
        pseudo_label_quality(*write_files(truth, results), thresholds=wrong)
    with pytest.raises(InputError, match="iou"):
        pseudo_label_quality(*write_files(truth, results), iou=0.0)


def test_predictions_for_other_images_are_an_error(truth: Any, results: Any, write_files: Any) -> None:
    results[0]["image_id"] = 999
    with pytest.raises(InputError, match="999"):
        pseudo_label_quality(*write_files(truth, results))


def test_the_table_has_a_block_for_every_class_that_occurs(truth: Any, results: Any, write_files: Any) -> None:
    text = format_quality(pseudo_label_quality(*write_files(truth, results)))
    assert "all classes, IoU 0.5" in text
    assert "cell, 2 objects" in text
    assert "dust" not in text
    assert "0.90              1      1.000   0.500     1.000" in text
