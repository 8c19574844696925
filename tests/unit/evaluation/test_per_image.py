"""Numbers from single images equal those of the evaluation, also where there is nothing to measure."""

from __future__ import annotations

import numpy as np
import pytest

from tlvision.evaluation import class_iou
from tlvision.evaluation.confusion import confusion
from tlvision.evaluation.per_image import LabelMapsPerImage


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_label_maps_equal_class_iou(classes: int) -> None:
    """With pixels of one class only, the mean measures nothing."""
    rng = np.random.default_rng(0)
    names = ("road", "car", "sky")
    pairs = [(rng.integers(0, classes, (8, 9)), rng.integers(0, 3, (8, 9))) for _ in range(4)]
    matrices = [confusion(truth, found, 3) for truth, found in pairs]
    pixels = np.stack([[np.diag(m), m.sum(axis=1), m.sum(axis=0)] for m in matrices])
    values = LabelMapsPerImage(names, list("abcd"), pixels).metrics(np.ones((1, 4)))
    expected = class_iou(pairs, names)
    mean = expected["semantic"]["mean_class_iou"]
    assert values["semantic/mean_class_iou"][0] == pytest.approx(np.nan if mean is None else mean, nan_ok=True)
    for name in names:
        iou = expected["per_class"][name]["iou"]
        assert values[f"semantic/iou {name}"][0] == pytest.approx(np.nan if iou is None else iou, nan_ok=True)
