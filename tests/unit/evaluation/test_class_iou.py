"""class_iou against a slow loop over pixels, hand-computed cases, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tlvision.evaluation import class_iou
from tlvision.evaluation.confusion import confusion
from tlvision.types import InputError

NAMES = ("road", "car", "tree", "sky")


def slow_iou(pairs: list[tuple[Any, Any]], k: int) -> float | None:
    """IoU of class k by the definition, a pixel at a time."""
    intersection = union = 0
    for truth, prediction in pairs:
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if truth[y, x] == 255:
                    continue
                there, found = truth[y, x] == k, prediction[y, x] == k
                intersection += there and found
                union += there or found
    return intersection / union if union else None


@pytest.mark.parametrize("seed", range(10))
def test_equals_a_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    used = int(rng.integers(1, 5))  # the last classes are absent
    pairs = []
    for _ in range(3):
        shape = tuple(rng.integers(1, 20, 2))
        truth = rng.integers(0, used, shape).astype(rng.choice(["uint8", "int64"]))
        truth[rng.random(shape) < 0.2] = 255
        pairs.append((truth, rng.integers(0, used, shape)))
    metrics = class_iou(pairs, NAMES)
    slow = [slow_iou(pairs, k) for k in range(4)]
    assert [metrics["per_class"][name]["iou"] for name in NAMES] == pytest.approx(slow, abs=1e-12)
    present = [value for value in slow if value is not None]
    assert metrics["semantic"]["mean_class_iou"] == pytest.approx(sum(present) / len(present), abs=1e-12)
    assert metrics["absent_classes"] == [name for name, value in zip(NAMES, slow, strict=True) if value is None]
    right = sum(int((t == p)[t != 255].sum()) for t, p in pairs)
    counted = sum(int((t != 255).sum()) for t, _ in pairs)
    assert metrics["semantic"]["pixel_accuracy"] == pytest.approx(right / counted, abs=1e-12)
    assert metrics["counts"] == {"images": 3, "pixels": counted, "ignored": sum(t.size for t, _ in pairs) - counted}
    assert json.loads(json.dumps(metrics)) == metrics


def test_an_ignored_pixel_counts_nowhere() -> None:
    truth, prediction = np.array([[0, 255, 1]], np.uint8), np.array([[0, 200, 1]], np.uint8)
    metrics = class_iou([(truth, prediction)], NAMES[:3])
    assert set(metrics["semantic"].values()) == {1.0}
    assert metrics["absent_classes"] == [NAMES[2]]


def test_a_class_without_ground_truth_is_neither_perfect_nor_zero() -> None:
    truth, prediction = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 2, 1, 1]], np.uint8)
    metrics = class_iou([(truth, prediction)], NAMES[:3])
    assert [row["iou"] for row in metrics["per_class"].values()] == [0.5, 1.0, None]
    assert metrics["semantic"]["mean_class_iou"] == 0.75
    assert metrics["absent_classes"] == [NAMES[2]]


def test_one_of_two_classes_alone_measures_nothing() -> None:
    truth = np.array([[0, 0, 255]], np.uint8)
    assert set(class_iou([(truth, np.zeros_like(truth))], NAMES[:2])["semantic"].values()) == {None}


def test_nothing_but_ignored_pixels_is_none() -> None:
    nothing = np.full((2, 2), 255)
    assert class_iou([(nothing, nothing)], NAMES)["semantic"]["mean_class_iou"] is None
    assert set(class_iou([(nothing, nothing)], NAMES)["semantic"].values()) == {None}


def test_the_matrix_has_truth_in_rows_and_is_int64() -> None:
    matrix = confusion(np.array([[0, 0, 1]], np.uint8), np.array([[1, 1, 1]], np.uint8), 2)
    assert matrix.tolist() == [[0, 2], [0, 1]]
    assert matrix.dtype == np.int64


ZEROS = np.zeros((2, 2), np.int64)
WRONG = [
    ("truth is no class", ZEROS + 4, ZEROS, "pair 1: the ground truth has the value.* 4, but the classes are 0..3"),
    ("prediction is no class", ZEROS, ZEROS + 255, "pair 1: the prediction has the value.* 255"),
    ("negative", ZEROS - 1, ZEROS, "pair 1: the ground truth has the value.* -1"),
    ("shapes", ZEROS, np.zeros((2, 3), np.int64), r"pair 1: .*\(2, 2\) and prediction \(2, 3\)"),
    ("three dimensions", ZEROS[None], ZEROS[None], r"pair 1: expected two \(H, W\)"),
    ("fractions", ZEROS, ZEROS + 0.5, "pair 1: expected integer .* prediction, got dtype float64"),
]


@pytest.mark.parametrize(("name", "truth", "prediction", "message"), WRONG, ids=[case[0] for case in WRONG])
def test_wrong_label_maps(name: str, truth: Any, prediction: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_iou([(ZEROS, ZEROS), (truth, prediction)], NAMES)


def test_no_pair_and_no_class_are_errors() -> None:
    with pytest.raises(InputError, match="at least one pair"):
        class_iou([], NAMES)
    with pytest.raises(InputError, match="class names, got 0"):
        class_iou([(ZEROS, ZEROS)], ())
