"""Mask AP against pycocotools on the same two files: real masks, spoilt in every way that a model may spoil them."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tlvision.evaluation import coco_map, instance_map
from tlvision.formats.coco import write_json, write_predictions
from tlvision.types import Prediction

pycocotools = pytest.importorskip("pycocotools")
from pycocotools import mask as rle  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def reference(ground_truth: Path, predictions: Path, iou_type: str) -> tuple[list[float], dict[int, tuple[float, ...]]]:
    """Run pycocotools on the two files: its twelve numbers, and (AP, AP50, AR100) per category id; -1 for nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ground_truth))
        evaluator = COCOeval(truth, truth.loadRes(str(predictions)), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    per_class = {}
    for k, category_id in enumerate(evaluator.params.catIds):
        values = precision[:, :, k, 0, 2], precision[0, :, k, 0, 2], recall[:, k, 0, 2]
        per_class[int(category_id)] = tuple(float(np.mean(v[v > -1])) if (v > -1).any() else -1.0 for v in values)
    return [float(value) for value in evaluator.stats], per_class


def assert_equal(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    metrics = instance_map(ground_truth, predictions)
    for kind in ("bbox", "segm"):
        twelve, per_class = reference(ground_truth, predictions, kind)
        assert tuple(metrics[kind]) == NAMES
        ours = [-1.0 if value is None else value for value in metrics[kind].values()]
        assert np.abs(np.subtract(ours, twelve)).max() <= 1e-9, list(zip(NAMES, ours, twelve, strict=True))
        categories = json.loads(ground_truth.read_text())["categories"]
        assert len(categories) == len(metrics["per_class"]) > 0
        for category in categories:
            row = metrics["per_class"][category["name"]]
            got = [-1.0 if row[f"{kind}/{key}"] is None else row[f"{kind}/{key}"] for key in ("AP", "AP50", "AR100")]
            assert np.abs(np.subtract(got, per_class[category["id"]])).max() <= 1e-9, category
    return metrics


def decoded(annotation: dict[str, Any], height: int, width: int) -> Any:
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = rle.frPyObjects(segmentation, height, width)
    return np.ascontiguousarray(rle.decode(segmentation))


def spoil(rng: np.random.Generator, mask: Any, seen: Counter[str]) -> Any:
    """Move, grow, shrink, cut or leave a mask."""
    kernel = np.ones((int(rng.integers(2, 9)),) * 2, np.uint8)
    dx, dy = rng.normal(0, 6, 2)
    half = mask.copy()
    half[:, int(np.median(np.nonzero(mask)[1])) :] = 0
    ways: dict[str, Callable[[], Any]] = {
        "as it is": lambda: mask,
        "moved": lambda: cv2.warpAffine(mask, np.array([[1, 0, dx], [0, 1, dy]]), mask.shape[::-1], flags=0),
        "grown": lambda: cv2.dilate(mask, kernel),
        "shrunk": lambda: cv2.erode(mask, kernel),
        "half of it": lambda: half,
    }
    way = str(rng.choice(list(ways)))
    seen[way] += 1
    return ways[way]()


def predictions_of(truth: dict[str, Any], seed: int, seen: Counter[str]) -> list[tuple[int, Prediction]]:
    """What a mediocre model would say: spoilt masks, some missed, some twice, of wrong classes, some of nothing."""
    rng = np.random.default_rng(seed)
    index_of = {category["id"]: index for index, category in enumerate(truth["categories"])}
    found = []
    for image in truth["images"]:
        height, width = image["height"], image["width"]
        masks, labels = [], []
        for annotation in (row for row in truth["annotations"] if row["image_id"] == image["id"]):
            copies = int(rng.choice([0, 1, 1, 2]))
            seen["missed"] += copies == 0
            seen["crowd"] += annotation["iscrowd"] * copies
            for _ in range(copies):
                masks.append(spoil(rng, decoded(annotation, height, width), seen))
                swapped = rng.random() < 0.1
                seen["another class"] += swapped
                labels.append(int(rng.integers(len(index_of))) if swapped else index_of[annotation["category_id"]])
        for _ in range(int(rng.integers(0, 3))):
            blob = np.zeros((height, width), np.uint8)
            centre, axes = rng.integers(0, (width, height)).tolist(), rng.integers(2, 60, 2).tolist()
            cv2.ellipse(blob, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            masks.append(blob)
            labels.append(int(rng.integers(len(index_of))))
            seen["nothing there"] += 1
        # A model's box is near its mask, not around it.
        boxes = np.array([cv2.boundingRect(mask) for mask in masks], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2] + rng.normal(0, 2, (len(boxes), 2))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        seen["empty mask"] += sum(not mask.any() for mask in masks)
        prediction = Prediction(
            boxes=boxes,
            scores=rng.random(len(masks)).round(2).astype(np.float32),  # with ties
            labels=np.array(labels, np.int64),
            masks=np.stack(masks) if masks else np.zeros((0, height, width), np.uint8),
        )
        found.append((image["id"], prediction))
    return found


@pytest.mark.shared
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_mask_ap_on_real_images_equals_pycocotools(seed: int, shared: Path, tmp_path: Path) -> None:
    ground_truth = shared / "data" / "coco128" / "val_seg.json"
    truth = json.loads(ground_truth.read_text())
    seen: Counter[str] = Counter()
    predictions = tmp_path / "predictions.json"
    category_ids = {index: category["id"] for index, category in enumerate(truth["categories"])}
    written = write_predictions(predictions, predictions_of(truth, seed, seen), category_ids)
    assert written.detections > 600
    metrics = assert_equal(ground_truth, predictions)
    assert 0.05 < metrics["segm"]["AP"] < 0.9
    assert metrics["segm"] != metrics["bbox"]
    assert metrics["counts"]["crowd"] == 5
    ways = {"as it is", "moved", "grown", "shrunk", "half of it", "missed", "another class", "nothing there", "crowd"}
    assert ways <= {way for way, count in seen.items() if count >= 2}, seen


@pytest.mark.shared
@pytest.mark.slow
def test_a_mask_in_a_crowd_region_is_neither_right_nor_wrong(shared: Path, tmp_path: Path) -> None:
    """Every object found exactly, and pieces of every crowd region as well: the AP stays 1."""
    ground_truth = shared / "data" / "coco128" / "val_seg.json"
    truth = json.loads(ground_truth.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    rows = [
        {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": row["bbox"], "score": 0.9,
         "segmentation": row["segmentation"]}
        for row in truth["annotations"] if not row["iscrowd"]
    ]  # fmt: skip
    crowds = [row for row in truth["annotations"] if row["iscrowd"]]
    assert len(crowds) == 5
    for row in crowds:
        mask = decoded(row, *sizes[row["image_id"]])
        mask[:, int(np.median(np.nonzero(mask)[1])) :] = 0
        encoded = rle.encode(np.asfortranarray(mask))
        encoded["counts"] = encoded["counts"].decode()
        box = [float(value) for value in cv2.boundingRect(mask)]
        rows.append({"image_id": row["image_id"], "category_id": row["category_id"], "bbox": box, "score": 0.95,
                     "segmentation": encoded})  # fmt: skip
    write_json(tmp_path / "predictions.json", rows)
    assert assert_equal(ground_truth, tmp_path / "predictions.json")["segm"]["AP"] == 1.0
    for row in rows[-5:]:
        row["category_id"] = next(c["id"] for c in truth["categories"] if c["id"] != row["category_id"])
    write_json(tmp_path / "predictions.json", rows)
    worse = assert_equal(ground_truth, tmp_path / "predictions.json")["segm"]["AP"]
    assert worse < 1.0, "outside a crowd region of their own class they are wrong"


@pytest.mark.parametrize("seed", range(6))
def test_boxes_and_masks_side_by_side_equal_each_alone(seed: int, dataset_of: Any, write_files: Any) -> None:
    truth, results = dataset_of(seed)
    for row in [*truth["annotations"], *results]:
        x, y, width, height = row["bbox"]
        mask = np.zeros((400, 400), np.uint8)
        mask[max(round(y), 0) : max(round(y + height), 0), max(round(x), 0) : max(round(x + width / 2), 0)] = 1
        encoded = rle.encode(np.asfortranarray(mask))
        row["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    files = write_files(truth, results)
    joined, boxes, masks = instance_map(*files), coco_map(*files), coco_map(*files, iou_type="segm")
    assert joined["bbox"] == boxes["bbox"]
    assert joined["segm"] == masks["segm"]
    assert joined["protocol"]["hash"] == {"bbox": boxes["protocol"]["hash"], "segm": masks["protocol"]["hash"]}
    assert joined["counts"] == boxes["counts"] == masks["counts"]
    assert joined["per_class"].keys() == boxes["per_class"].keys()
    for name, row in joined["per_class"].items():
        for key, value in boxes["per_class"][name].items():
            assert row[key if key in ("ground_truths", "predictions") else f"bbox/{key}"] == value
        assert row["segm/AP"] == masks["per_class"][name]["AP"]
