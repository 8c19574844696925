"""Measures from matches against independent computations: coco_map, supervision, scikit-learn, and slow loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fast import first_fast
from tlvision.evaluation import coco_map
from tlvision.evaluation.average_precision import average_precision
from tlvision.evaluation.calibration import calibration
from tlvision.evaluation.curves import at_thresholds, curves
from tlvision.evaluation.matching import Matches, match
from tlvision.evaluation.object_confusion import object_confusion
from tlvision.evaluation.read import read_ground_truth, read_predictions
from tlvision.types import ClassThresholds

Dataset = tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]


@pytest.fixture
def matched(dataset_of: Callable[[int], Dataset], write_files: Any) -> Callable[..., tuple[Matches, Any, Any, Any]]:
    """Return matches, both files, and the dataset, by seed."""

    def build(seed: int, change: Callable[[Any, Any], None] | None = None) -> tuple[Matches, Any, Any, Any]:
        truth, results = dataset_of(seed)
        if change is not None:
            change(truth, results)
        files = write_files(truth, results)
        objects = read_ground_truth(files[0])
        return match(objects, read_predictions(files[1], objects)), files, truth, results

    return build


@pytest.mark.parametrize("first", first_fast(range(0, 240, 20), 4))
def test_average_precision_equals_coco_map(first: int, matched: Any) -> None:
    measured = 0
    for seed in range(first, first + 20):
        matches, files, _, _ = matched(seed)
        metrics = coco_map(*files)
        ap = average_precision(matches)[0]  # (C, T)
        rows = [metrics["per_class"][name] for name in matches.names]
        for row, values in zip(rows, ap, strict=True):
            if row["AP"] is None:
                assert np.isnan(values).all()
                continue
            measured += 1
            assert abs(values.mean() - row["AP"]) < 1e-12
            assert abs(values[0] - row["AP50"]) < 1e-12
    assert measured > 20


@pytest.mark.parametrize("seed", range(8))
def test_weights_of_images_equal_images_that_are_there_so_many_times(
    seed: int, dataset_of: Callable[[int], Dataset], write_files: Any
) -> None:
    truth, results = dataset_of(seed)
    for number, row in enumerate(results):  # a tie between images has no order that both sides could share
        row["score"] = row["score"] * 0.9 + number * 1e-7
    ids = sorted(image["id"] for image in truth["images"])
    times = np.random.default_rng(seed).integers(0, 3, len(ids))
    copies: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": truth["categories"]}
    found: list[dict[str, Any]] = []
    for image_id, count in zip(ids, times.tolist(), strict=True):
        for _ in range(count):
            fresh = len(copies["images"]) + 1
            copies["images"].append({"id": fresh, "height": 400, "width": 400, "file_name": f"{fresh}.jpg"})
            for row in (row for row in truth["annotations"] if row["image_id"] == image_id):
                copies["annotations"].append({**row, "image_id": fresh, "id": len(copies["annotations"]) + 1})
            found += [{**row, "image_id": fresh} for row in results if row["image_id"] == image_id]
    objects = read_ground_truth(write_files(truth, results)[0])
    weighted = average_precision(match(objects, _read(objects, results)), [times])[0]
    if not copies["annotations"]:
        assert np.isnan(weighted).all()
        return
    files = write_files(copies, found)
    again = read_ground_truth(files[0])
    copied = average_precision(match(again, read_predictions(files[1], again)))[0]
    np.testing.assert_allclose(weighted, copied, atol=1e-12, equal_nan=True)


def _read(objects: Any, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "id": number, "iscrowd": 0} for number, row in enumerate(results, start=1)]


def without_crowds(truth: Any, results: Any) -> None:
    """Leave out crowd regions, which supervision does not know, and ties of IoUs, which it orders its own way."""
    for row in truth["annotations"]:
        row["iscrowd"] = 0
    rng = np.random.default_rng(0)
    for row in results:
        row["bbox"] = [float(value) for value in np.array(row["bbox"]) + rng.uniform(0.001, 0.01, 4)]


@pytest.mark.parametrize("seed", [1, 2, 3, 6, 13])
def test_confusion_equals_supervision(seed: int, matched: Any) -> None:
    import supervision as sv

    matches, _, truth, results = matched(seed, without_crowds)
    index = {number: k for k, number in enumerate(sorted(row["id"] for row in truth["categories"]))}

    def detections(rows: list[dict[str, Any]], scored: bool) -> Any:
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([index[row["category_id"]] for row in rows], int)
        scores = np.array([row["score"] for row in rows], np.float64) if scored else None
        return sv.Detections(xyxy=boxes, class_id=labels, confidence=scores)

    images = [image["id"] for image in truth["images"]]
    expected = sv.ConfusionMatrix.from_detections(
        predictions=[detections([row for row in results if row["image_id"] == each], True) for each in images],
        targets=[detections([r for r in truth["annotations"] if r["image_id"] == each], False) for each in images],
        classes=list(matches.names),
        conf_threshold=0.25,
        iou_threshold=0.5,
    ).matrix
    ours = object_confusion(matches, ClassThresholds(0.25))
    assert ours.sum() > 5
    assert ours.tolist() == expected.astype(int).tolist()


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_precision_and_recall_equal_scikit_learn(seed: int, matched: Any) -> None:
    from sklearn.metrics import precision_recall_curve

    matches, *_ = matched(seed)
    found = curves(matches)
    checked = 0
    for label, name in enumerate(matches.names):
        mine = (matches.label == label) & (matches.outcome[:, 0] >= 0)
        right, score = matches.outcome[mine, 0], matches.score[mine]
        if not right.any():
            continue
        precision, recall, thresholds = precision_recall_curve(right, score)
        for position, threshold in enumerate(found["thresholds"]):
            if threshold > score.max():
                continue
            at = int(np.searchsorted(thresholds, threshold))
            assert found["per_class"][name]["precision"][position] == pytest.approx(precision[at], abs=1e-5)
            # scikit-learn's recall is that of the detections; objects without one are missed as well.
            share = recall[at] * right.sum() / matches.objects[label]
            assert found["per_class"][name]["recall"][position] == pytest.approx(share, abs=1e-5)
            checked += 1
    assert checked > 50


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_reliability_equals_scikit_learn(seed: int, matched: Any) -> None:
    from sklearn.calibration import calibration_curve

    # scikit-learn puts a score on an edge into the lower bin, so that no score may lie on one.
    matches, *_ = matched(seed, lambda _, results: [row.update(score=row["score"] * 0.97 + 0.013) for row in results])
    found = calibration(matches, min_score=0.0)
    counted = matches.outcome[:, 0] >= 0
    share, mean = calibration_curve(matches.outcome[counted, 0], np.clip(matches.score[counted], 0, 1), n_bins=10)
    rows = [row for row in found["bins"] if row["detections"]]
    assert [row["precision"] for row in rows] == pytest.approx(share.tolist())
    assert [row["mean_score"] for row in rows] == pytest.approx(mean.tolist())
    by_hand = 0.0
    for row in found["bins"]:
        inside = counted & (matches.score >= row["from"]) & (matches.score < row["to"])
        inside |= counted & (row["to"] == 1.0) & (matches.score == 1.0)
        assert row["detections"] == int(inside.sum())
        if inside.any():
            gap = abs(matches.outcome[inside, 0].mean() - matches.score[inside].mean())
            by_hand += inside.sum() / counted.sum() * gap
    assert found["error"] == pytest.approx(by_hand)


@pytest.mark.parametrize("seed", [0, 2, 3, 5])
def test_counts_at_thresholds_equal_a_slow_loop(seed: int, matched: Any) -> None:
    matches, _, truth, results = matched(seed)
    thresholds = ClassThresholds(0.3, {matches.names[0]: 0.5})
    found = at_thresholds(matches, thresholds)["per_class"]
    for category in truth["categories"]:
        limit = thresholds.per_class.get(category["name"], thresholds.default)
        right = wrong = 0
        for image in truth["images"]:
            objects = [row for row in truth["annotations"] if _is(row, image, category)]
            rows = [row for row in results if _is(row, image, category) and row["score"] >= limit]
            one, other = _slow_match(sorted(rows, key=lambda row: -row["score"])[:100], objects)
            right, wrong = right + one, wrong + other
        row = found[category["name"]]
        assert (row["right"], row["false_positives"]) == (right, wrong)
        assert row["threshold"] == limit


def _is(row: dict[str, Any], image: dict[str, Any], category: dict[str, Any]) -> bool:
    return bool(row["image_id"] == image["id"] and row["category_id"] == category["id"])


def _slow_match(rows: list[dict[str, Any]], objects: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the number of right and of wrong detections of one image and class at IoU 0.5."""
    free, right, wrong = [row for row in objects if not row["iscrowd"]], 0, 0
    for row in rows:
        best = max(free, key=lambda each: _iou(row["bbox"], each["bbox"]), default=None)
        if best is not None and _iou(row["bbox"], best["bbox"]) >= 0.5:
            free.remove(best)
            right += 1
        elif not any(_inside(row["bbox"], each["bbox"]) >= 0.5 for each in objects if each["iscrowd"]):
            wrong += 1
    return right, wrong


def _shared(one: list[float], other: list[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _iou(one: list[float], other: list[float]) -> float:
    shared = _shared(one, other)
    whole = one[2] * one[3] + other[2] * other[3] - shared
    return shared / whole if whole else 0.0


def _inside(one: list[float], other: list[float]) -> float:
    return _shared(one, other) / (one[2] * one[3]) if one[2] * one[3] else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_of_masks_equals_coco_map(
    seed: int, dataset_of: Callable[[int], Dataset], write_files: Any
) -> None:
    truth, results = dataset_of(seed)
    for number, row in enumerate(truth["annotations"]):  # polygons, run lengths in both forms
        row["segmentation"] = [as_polygon(row["bbox"])] if number % 3 else as_run_lengths(row["bbox"])
    for row in results:
        row["segmentation"] = as_run_lengths(row["bbox"])
    files = write_files(truth, results)
    objects = read_ground_truth(files[0], "segm")
    matches = match(objects, read_predictions(files[1], objects, "segm"), "segm")
    per_class = coco_map(*files, iou_type="segm")["per_class"]
    ap = average_precision(matches)[0].mean(axis=1)
    expected = [per_class[name]["AP"] for name in matches.names]
    np.testing.assert_allclose(ap, [np.nan if value is None else value for value in expected], atol=1e-12)


def as_polygon(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width / 2, y, x + width, y + height, x, y + height]


def as_run_lengths(box: list[float]) -> dict[str, Any]:
    mask = np.zeros((400, 400), np.uint8)
    x, y, width, height = (round(value) for value in box)
    mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = 1
    column_major = mask.ravel(order="F").astype(np.int8)
    borders = np.flatnonzero(np.diff(column_major, prepend=0)).tolist()
    return {"size": [400, 400], "counts": np.diff([0, *borders, column_major.size]).tolist()}
