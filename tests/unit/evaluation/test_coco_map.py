"""Hand-computed cases, and what the returned dict promises. Parity with pycocotools: tests/golden."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tlvision.evaluation import coco_map
from tlvision.types import InputError


def test_all_found_is_one(truth: Any, results: Any, write_files: Any) -> None:
    metrics = coco_map(*write_files(truth, results))
    assert metrics["bbox"] == {
        "AP": 1.0, "AP50": 1.0, "AP75": 1.0, "APs": 1.0, "APm": 1.0, "APl": None,
        "AR1": 0.5, "AR10": 1.0, "AR100": 1.0, "ARs": 1.0, "ARm": 1.0, "ARl": None,
    }  # fmt: skip
    assert metrics["per_class"]["cell"] == {
        "AP": 1.0, "AP50": 1.0, "AR100": 1.0, "ground_truths": 2, "predictions": 2,
    }  # fmt: skip
    assert metrics["absent_classes"] == ["dust"]
    assert metrics["counts"] == {
        "images": 2, "ground_truths": 2, "crowd": 0, "predictions": 2, "areas_from_boxes": 0, "lowest_score": 0.8,
    }  # fmt: skip
    assert json.loads(json.dumps(metrics)) == metrics


def test_a_false_positive_on_an_empty_image_lowers_ap(truth: Any, results: Any, write_files: Any) -> None:
    results.append({"image_id": 11, "category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.95})
    # Best first: false, true, true. Interpolated precision is 2/3 at every recall.
    assert coco_map(*write_files(truth, results))["bbox"]["AP"] == pytest.approx(2 / 3, abs=1e-12)


def test_half_found_counts_51_of_101_recall_points(truth: Any, results: Any, write_files: Any) -> None:
    # Recall reaches 0.5, so that the points 0.00 to 0.50 have precision 1 and the others 0.
    assert coco_map(*write_files(truth, results[:1]))["bbox"]["AP"] == pytest.approx(51 / 101, abs=1e-12)


def test_iou_decides_at_which_thresholds_a_box_counts(truth: Any, results: Any, write_files: Any) -> None:
    del truth["annotations"][1], results[1]
    results[0]["bbox"] = [10, 10, 20, 24]  # IoU 0.8 exactly: right at 0.50 to 0.80, which are 7 of 10
    metrics = coco_map(*write_files(truth, results))["bbox"]
    assert metrics["AP"] == pytest.approx(0.7, abs=1e-12)
    assert metrics["AP75"] == 1.0


def test_no_prediction_is_zero_and_nothing_to_measure_is_none(truth: Any, write_files: Any) -> None:
    metrics = coco_map(*write_files(truth, []))
    assert metrics["bbox"]["AP"] == 0.0
    assert metrics["per_class"]["dust"]["AP"] is None
    truth["annotations"] = []
    metrics = coco_map(*write_files(truth, []))
    assert set(metrics["bbox"].values()) == {None}
    assert metrics["absent_classes"] == ["cell", "dust"]


def test_results_of_an_absent_class_are_counted_but_not_averaged(truth: Any, results: Any, write_files: Any) -> None:
    results.append({"image_id": 10, "category_id": 90, "bbox": [0, 0, 5, 5], "score": 1.0})
    metrics = coco_map(*write_files(truth, results))
    assert metrics["bbox"]["AP"] == 1.0
    assert metrics["per_class"]["dust"]["predictions"] == 1


def test_crowd_neither_rewards_nor_punishes(truth: Any, results: Any, write_files: Any) -> None:
    truth["annotations"][1]["iscrowd"] = 1
    results += [{"image_id": 10, "category_id": 3, "bbox": [70, 15, 10, 10], "score": 0.99}] * 3
    metrics = coco_map(*write_files(truth, results))
    assert metrics["bbox"]["AP"] == 1.0
    assert (metrics["counts"]["ground_truths"], metrics["counts"]["crowd"]) == (1, 1)


def test_area_and_iscrowd_may_be_missing(truth: Any, results: Any, write_files: Any) -> None:
    # 40 * 20 is small; a square of either side would be medium or of another size.
    for objects in (truth["annotations"], results):
        objects[0]["bbox"] = [10, 10, 40, 20]
    truth["annotations"][0]["area"] = 800
    whole = coco_map(*write_files(truth, results))
    assert (whole["bbox"]["APs"], whole["bbox"]["APm"]) == (1.0, 1.0)
    for annotation in truth["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    filled = coco_map(*write_files(truth, results))
    assert filled["bbox"] == whole["bbox"]  # the areas in the file are width * height
    assert filled["counts"]["areas_from_boxes"] == 2


def test_an_annotation_id_0_is_like_any_other(truth: Any, results: Any, write_files: Any) -> None:
    truth["annotations"][0]["id"] = 0  # pycocotools would take its match for a miss
    assert coco_map(*write_files(truth, results))["bbox"]["AP"] == 1.0


def test_max_detections_name_and_limit_the_recalls(truth: Any, results: Any, write_files: Any) -> None:
    metrics = coco_map(*write_files(truth, results), max_detections=(1, 2, 300))
    assert list(metrics["bbox"])[6:9] == ["AR1", "AR2", "AR300"]
    assert metrics["bbox"]["AR1"] == 0.5
    assert "AR300" in metrics["per_class"]["cell"]


def test_the_protocol_hash_follows_what_changes_the_number(truth: Any, results: Any, write_files: Any) -> None:
    files = write_files(truth, results)
    plain, again = coco_map(*files)["protocol"], coco_map(*write_files(truth, []))["protocol"]
    other = coco_map(*files, max_detections=(1, 10, 300))["protocol"]
    assert plain == again
    assert plain["hash"] != other["hash"]
    assert len(plain["hash"]) == 12
    assert plain["iou_thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert plain["area_ranges"]["medium"] == [1024.0, 9216.0]


@pytest.mark.parametrize("wrong", [(1, 100, 10), (0, 10, 100), (10, 10, 100), (10, 100)])
def test_max_detections_must_ascend(wrong: Any, truth: Any, results: Any, write_files: Any) -> None:
    with pytest.raises(InputError, match="max_detections"):
        coco_map(*write_files(truth, results), max_detections=wrong)


def test_evaluating_imports_no_torch(truth: Any, results: Any, write_files: Any) -> None:
    files = [str(path) for path in write_files(truth, results)]
    code = (
        "import sys; from tlvision.evaluation import coco_map\n"
        "assert 'faster_coco_eval' not in sys.modules, 'importing is not light'\n"
        "print(coco_map(*sys.argv[1:])['bbox']['AP'])\n"
        "print(sorted({'torch', 'torchvision', 'lightning_fabric', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["1.0", "[]"]
