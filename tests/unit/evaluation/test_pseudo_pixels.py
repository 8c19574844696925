from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlvision.evaluation import PixelQuality, format_quality
from tlvision.types import IGNORE_INDEX, InputError

NAMES = ("road", "car", "tree", "never")
THRESHOLDS = (0.0, 0.3, 0.9)


def images() -> list[tuple[Any, Any, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for size in ((5, 7), (3, 2)):
        truth = rng.integers(0, 3, size).astype(np.uint8)
        truth[0, 0] = IGNORE_INDEX
        confidence = rng.choice(np.array([0.1, 0.3, 0.5, 0.9, 1.0], np.float32), size)
        made.append((truth, rng.integers(0, 3, size), confidence))
    return made


def slow(threshold: float, classes: list[int]) -> dict[str, Any]:
    """Count pixel by pixel."""
    found = right = truths = 0
    for truth, labels, confidence in images():
        for t, p, c in zip(truth.flat, labels.flat, confidence.flat, strict=True):
            if t == IGNORE_INDEX:
                continue
            sure = bool(c >= np.float32(threshold))
            truths += int(t) in classes
            found += sure and int(p) in classes
            right += sure and int(p) in classes and p == t
    return {
        "threshold": threshold,
        "pseudo_labels": found,
        "right": right,
        "precision": right / found if found else None,
        "recall": right / truths if truths else None,
        "mean_iou": right / (found + truths - right) if found + truths else None,
    }


def test_quality_is_that_of_a_slow_loop() -> None:
    quality = PixelQuality(NAMES, thresholds=THRESHOLDS)
    for each in images():
        quality.add(*each)
    result = quality.result()
    assert [*result["per_class"]] == list(NAMES)
    for index, name in enumerate(NAMES):
        expected = [slow(threshold, [index]) for threshold in THRESHOLDS]
        assert result["per_class"][name]["thresholds"] == expected
    assert result["per_class"]["never"]["ground_truths"] == 0
    for number, threshold in enumerate(THRESHOLDS):
        per_class = [slow(threshold, [index])["mean_iou"] for index in range(3)]
        assert result["all"][number] == slow(threshold, [0, 1, 2, 3]) | {"mean_iou": pytest.approx(sum(per_class) / 3)}
    assert result["counts"] == {"images": 2, "ground_truths": 39, "predictions": 39}
    text = format_quality(result)
    assert text.startswith("all classes, pixels\n")
    assert "car, " in text
    assert "never" not in text


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="ascending thresholds"):
        PixelQuality(NAMES, thresholds=[0.5, 0.2])
    quality = PixelQuality(NAMES)
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match=r"one size, got truth \(2, 2\), labels \(2, 3\)"):
        quality.add(good, np.zeros((2, 3), np.uint8), np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match=r"labels has values in 0\.\.4; classes: 4"):
        quality.add(good, np.array([[0, 4], [0, 0]]), np.ones((2, 2), np.float32))
    quality.add(np.full((2, 2), IGNORE_INDEX), good, np.ones((2, 2), np.float32))
    assert quality.result()["all"][0]["precision"] is None
