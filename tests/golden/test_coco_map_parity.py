"""coco_map against pycocotools: the twelve numbers and every class, on random and on real data, to 1e-9."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fast import first_fast
from tlvision.evaluation import coco_map

pycocotools = pytest.importorskip("pycocotools")
from pycocotools import mask as rle  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
SEEDS = range(240)


def reference(truth: Any, results: Any, iou_type: str = "bbox") -> tuple[list[float], dict[int, tuple[float, ...]]]:
    """Run pycocotools: its twelve numbers, and (AP, AP50, AR100) per category id; -1 where there is nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy({"info": {}, **truth})
        coco.createIndex()
        if results:
            found = coco.loadRes(copy.deepcopy(results))
        else:  # pycocotools' loadRes cannot read an empty list
            found = COCO()
            found.dataset = {"images": truth["images"], "annotations": [], "categories": truth["categories"]}
            found.createIndex()
        evaluator = COCOeval(coco, found, iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    per_class = {}
    for k, category_id in enumerate(evaluator.params.catIds):
        values = precision[:, :, k, 0, 2], precision[0, :, k, 0, 2], recall[:, k, 0, 2]
        per_class[int(category_id)] = tuple(float(np.mean(v[v > -1])) if (v > -1).any() else -1.0 for v in values)
    return [float(value) for value in evaluator.stats], per_class


def assert_equal(truth: Any, results: Any, metrics: dict[str, Any], iou_type: str = "bbox") -> None:
    twelve, per_class = reference(truth, results, iou_type)
    assert tuple(metrics[iou_type]) == NAMES
    ours = [-1.0 if value is None else value for value in metrics[iou_type].values()]
    assert np.abs(np.subtract(ours, twelve)).max() <= 1e-9, list(zip(NAMES, ours, twelve, strict=True))
    assert len(metrics["per_class"]) == len(truth["categories"]) > 0
    for category in truth["categories"]:
        row = metrics["per_class"][category["name"]]
        got = [-1.0 if row[key] is None else row[key] for key in ("AP", "AP50", "AR100")]
        assert np.abs(np.subtract(got, per_class[category["id"]])).max() <= 1e-9, category
        assert (category["name"] in metrics["absent_classes"]) == (per_class[category["id"]][0] == -1)


@pytest.mark.parametrize("first", first_fast(range(0, len(SEEDS), 20), 6))
def test_random_datasets_equal_pycocotools(first: int, dataset_of: Any, write_files: Any) -> None:
    seeds = list(SEEDS)[first : first + 20]
    assert len(seeds) == 20
    for seed in seeds:
        truth, results = dataset_of(seed)
        assert_equal(truth, results, coco_map(*write_files(truth, results)))


def test_the_generator_makes_the_hard_cases(dataset_of: Any) -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        truth, results = dataset_of(seed)
        areas = [annotation["area"] for annotation in truth["annotations"]]
        labelled = {annotation["image_id"] for annotation in truth["annotations"]}
        classes = {a["category_id"] for a in truth["annotations"] if not a["iscrowd"]}
        per_image = Counter((result["image_id"], result["category_id"]) for result in results)
        scores = [result["score"] for result in results]
        seen["crowd"] += any(annotation["iscrowd"] for annotation in truth["annotations"])
        seen["a result on an empty image"] += any(result["image_id"] not in labelled for result in results)
        seen["absent class"] += len(classes) < len(truth["categories"])
        seen["tied scores"] += len(set(scores)) < len(scores)
        seen["area 32**2"] += 32.0**2 in areas
        seen["area 96**2"] += 96.0**2 in areas
        seen["over 100"] += max(per_image.values(), default=0) > 100
        seen["over 300"] += max(per_image.values(), default=0) > 300
        seen["category id 0"] += any(category["id"] == 0 for category in truth["categories"])
        seen["category ids 3, 7, 90"] += {category["id"] for category in truth["categories"]} == {3, 7, 90}
        ids = [category["id"] for category in truth["categories"]]
        seen["categories out of order"] += ids != sorted(ids)
        seen["fractions of a pixel"] += any(value % 1 for result in results for value in result["bbox"])
        seen["no result"] += not results
    assert len(seen) == 13
    assert min(seen.values()) >= 3, seen


@pytest.mark.parametrize("seed", range(12))
def test_masks_equal_pycocotools(seed: int, dataset_of: Any, write_files: Any) -> None:
    truth, results = dataset_of(seed)
    for number, annotation in enumerate(truth["annotations"]):
        annotation["segmentation"] = as_polygon(annotation["bbox"]) if number % 2 else as_rle(annotation["bbox"])
    for result in results:
        result["segmentation"] = as_rle(result["bbox"])
        if seed % 2:
            del result["bbox"]  # then the area of the mask counts, else that of the box
    assert_equal(truth, results, coco_map(*write_files(truth, results), iou_type="segm"), "segm")


def test_masks_with_plain_run_lengths_count_as_their_compressed_form(dataset_of: Any, write_files: Any) -> None:
    truth, results = dataset_of(0)
    for annotation in truth["annotations"]:
        annotation["segmentation"] = as_rle(annotation["bbox"])
    for result in results:
        result["segmentation"] = as_rle(result["bbox"])
    compressed = coco_map(*write_files(truth, results), iou_type="segm")
    assert compressed["segm"]["AP"] is not None
    for result in results:
        column_major = as_array(result["bbox"]).ravel(order="F").astype(np.int8)
        borders = np.flatnonzero(np.diff(column_major, prepend=0)).tolist()
        result["segmentation"]["counts"] = np.diff([0, *borders, column_major.size]).tolist()
    assert coco_map(*write_files(truth, results), iou_type="segm") == compressed


def as_polygon(box: list[float]) -> list[list[float]]:
    x, y, width, height = box
    return [[x, y, x + width / 2, y, x + width, y + height, x, y + height]]


def as_array(box: list[float]) -> Any:
    mask = np.zeros((400, 400), np.uint8)
    x, y, width, height = (round(value) for value in box)
    mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = 1
    return mask


def as_rle(box: list[float]) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(as_array(box)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


REAL = ("bccd/val.json", "deeppcb/val.json", "coco128/val.json", "coco128/val_seg.json", "driving_kitti/val.json")


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_ground_truth_equals_pycocotools(name: str, shared: Path, write_files: Any) -> None:
    truth = json.loads((shared / "data" / name).read_text())
    rng = np.random.default_rng(0)
    ids = [category["id"] for category in truth["categories"]]
    results = []
    for annotation in truth["annotations"]:
        for _ in range(int(rng.integers(0, 4))):
            box = np.array(annotation["bbox"]) * rng.normal(1, 0.05, 4)
            category = annotation["category_id"] if rng.random() < 0.9 else int(rng.choice(ids))
            score = round(float(rng.random()), 2)
            result = {"image_id": annotation["image_id"], "category_id": category, "bbox": box.tolist(), "score": score}
            results.append(result)
    assert len(results) > 50
    assert_equal(truth, results, coco_map(*write_files(truth, results)))
