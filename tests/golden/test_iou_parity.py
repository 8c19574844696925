"""The numbers about label maps equal those of torchmetrics and of mmsegmentation, and of slow loops, to 1e-12."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tlvision.evaluation import class_iou
from tlvision.evaluation.boundary_iou import boundary_counts

CLASSES = 7
NAMES = tuple("abcdefg")
Pairs = list[tuple[Any, Any]]


def pairs(seed: int, *, ignored: bool = True) -> Pairs:
    """Blobs of classes, of which the last is absent from truth and predictions."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(4):
        shape = tuple(rng.integers(20, 60, 2))
        truth = rng.integers(0, CLASSES - 1, (8, 8)).astype(np.uint8).repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]]
        prediction = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, CLASSES - 1, truth.shape))
        if ignored:
            truth[rng.random(truth.shape) < 0.1] = 255
        found.append((truth, prediction.astype(np.uint8)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_torchmetrics(seed: int) -> None:
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_jaccard_index,
    )

    data = pairs(seed)
    truth = torch.from_numpy(np.concatenate([one.ravel() for one, _ in data])).long()
    found = torch.from_numpy(np.concatenate([other.ravel() for _, other in data])).long()
    options: dict[str, Any] = {"num_classes": CLASSES, "ignore_index": 255}
    metrics = class_iou(data, NAMES)
    rows = list(metrics["per_class"].values())[:-1]
    for name, function in (
        ("iou", multiclass_jaccard_index),
        ("dice", multiclass_f1_score),
        ("accuracy", multiclass_accuracy),
    ):
        # In single precision, which it divides in whatever the default is, it is equal to seven digits only.
        expected = function(found, truth, average="none", **options)[:-1]
        assert [row[name] for row in rows] == pytest.approx(expected.tolist(), abs=1e-6)
    matrix = multiclass_confusion_matrix(found, truth, **options).double()
    hits = matrix.diag()
    assert [row["iou"] for row in rows] == pytest.approx(
        (hits / (matrix.sum(0) + matrix.sum(1) - hits))[:-1].tolist(), abs=1e-12
    )
    assert metrics["semantic"]["pixel_accuracy"] == pytest.approx(float(hits.sum() / matrix.sum()), abs=1e-12)
    assert metrics["absent_classes"] == ["g"]


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_mmsegmentation(seed: int) -> None:
    pytest.importorskip("mmseg", reason="mmsegmentation is an extra: pip install 'tlvision[openmmlab]'")
    import tlvision_openmmlab.mmcv_ops  # noqa: F401

    iou_metric = pytest.importorskip("mmseg.evaluation.metrics.iou_metric").IoUMetric
    data = pairs(seed)
    areas = [
        iou_metric.intersect_and_union(torch.from_numpy(found).long(), torch.from_numpy(truth).long(), CLASSES, 255)
        for truth, found in data
    ]
    totals = [sum(each[number].double() for each in areas) for number in range(4)]
    upstream = iou_metric.total_area_to_metrics(*totals, ["mIoU", "mDice"])
    metrics = class_iou(data, NAMES)
    rows = list(metrics["per_class"].values())[:-1]
    for ours, theirs in (("iou", "IoU"), ("dice", "Dice"), ("accuracy", "Acc")):
        assert [row[ours] for row in rows] == pytest.approx(upstream[theirs][:-1].tolist(), abs=1e-12)
        assert metrics["semantic"][f"mean_class_{ours}"] == pytest.approx(np.nanmean(upstream[theirs]), abs=1e-12)
    assert metrics["semantic"]["pixel_accuracy"] == pytest.approx(float(upstream["aAcc"]), abs=1e-12)


def slow_frequency_weighted_iou(data: Pairs) -> float:
    counted = total = 0.0
    for index in range(CLASSES):
        truths = sum(int((truth == index).sum()) for truth, _ in data)
        both = sum(int(((truth == index) & (found == index)).sum()) for truth, found in data)
        either = sum(int((((truth == index) | (found == index)) & (truth != 255)).sum()) for truth, found in data)
        counted += truths * both / either if either else 0.0
        total += truths
    return counted / total


def slow_boundary(mask: Any, distance: int) -> set[tuple[int, int]]:
    """The pixels of a mask from which a pixel outside it, or outside the image, is `distance` king's moves away."""
    height, width = mask.shape
    found = set()
    for y, x in np.argwhere(mask):
        for v in range(y - distance, y + distance + 1):
            for u in range(x - distance, x + distance + 1):
                if not (0 <= v < height and 0 <= u < width) or not mask[v, u]:
                    found.add((int(y), int(x)))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_no_other_library_gives_equals_a_slow_loop(seed: int) -> None:
    data = pairs(seed)
    metrics = class_iou(data, NAMES, boundary=True)
    assert metrics["semantic"]["frequency_weighted_iou"] == pytest.approx(slow_frequency_weighted_iou(data), abs=1e-12)
    expected = np.zeros((CLASSES, 2), int)
    for truth, prediction in data:
        distance = max(1, round(0.02 * float(np.hypot(*truth.shape))))
        found = np.where(truth == 255, 255, prediction)
        for index in range(CLASSES):
            one, other = (slow_boundary(side == index, distance) for side in (truth, found))
            expected[index] += len(one & other), len(one | other)
    assert sum(boundary_counts(truth, found, CLASSES) for truth, found in data).tolist() == expected.tolist()
    iou = [row["boundary_iou"] for row in metrics["per_class"].values()]
    assert iou == [int(part) / int(whole) if whole else None for part, whole in expected]
