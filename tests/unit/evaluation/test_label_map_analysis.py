"""Confusion, borders and single images of label maps, against slow loops and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tlvision.evaluation import Analysis, label_map_iou
from tlvision.evaluation.boundary_iou import DISTANCE
from tlvision.evaluation.label_map_analysis import border_errors
from tlvision.types import IGNORE_INDEX

NAMES = ["road", "car", "sky"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three images with ignored pixels; the second is predicted at random."""
    rng = np.random.default_rng(0)
    for name in ("truth", "found"):
        (tmp_path / name).mkdir()
    for number in range(3):
        truth = cv2.resize(rng.integers(0, 3, (4, 5)).astype(np.uint8), (50, 40), interpolation=cv2.INTER_NEAREST)
        found = np.where(
            rng.random(truth.shape) < (0.9 if number == 1 else 0.1), rng.integers(0, 3, truth.shape), truth
        )
        truth[rng.random(truth.shape) < 0.05] = IGNORE_INDEX
        cv2.imwrite(str(tmp_path / "truth" / f"{number}.png"), truth)
        cv2.imwrite(str(tmp_path / "found" / f"{number}.png"), found.astype(np.uint8))
    return tmp_path / "truth", tmp_path / "found"


def test_the_analysis_equals_scikit_learn(folders: tuple[Path, Path]) -> None:
    from sklearn.metrics import confusion_matrix, jaccard_score, precision_recall_fscore_support

    pairs = [[cv2.imread(str(folder / f"{n}.png"), cv2.IMREAD_GRAYSCALE) for folder in folders] for n in range(3)]
    flat = [(truth[truth != IGNORE_INDEX], found[truth != IGNORE_INDEX]) for truth, found in pairs]
    truth, found = (np.concatenate(side) for side in zip(*flat, strict=True))
    analysis = label_map_iou(*folders, NAMES, analysis=Analysis())["analysis"]["semantic"]

    expected = confusion_matrix(truth, found)
    assert {(NAMES.index(c["truth"]), NAMES.index(c["predicted"])): c["count"] for c in analysis["confusion"]} == {
        (row, column): int(expected[row, column]) for row, column in np.argwhere(expected).tolist()
    }
    precision, recall, *_ = precision_recall_fscore_support(truth, found)
    assert [analysis["per_class"][name]["precision"] for name in NAMES] == pytest.approx(precision.tolist())
    assert [analysis["per_class"][name]["recall"] for name in NAMES] == pytest.approx(recall.tolist())
    each = [jaccard_score(*one, average="macro") for one in flat]
    assert analysis["images"]["mean"] == pytest.approx(np.mean(each))
    assert analysis["images"]["worst"][0] == {"image": "1", "mean_class_iou": pytest.approx(min(each))}
    assert analysis["images"]["quantiles"]["0.5"] == pytest.approx(np.median(each))


def test_pixels_near_borders_equal_a_slow_loop(folders: tuple[Path, Path]) -> None:
    truth, found = (cv2.imread(str(folder / "0.png"), cv2.IMREAD_GRAYSCALE) for folder in folders)
    distance = max(1, round(DISTANCE * float(np.hypot(*truth.shape))))
    counts = np.zeros((2, 2), int)
    for y, x in np.argwhere(truth != IGNORE_INDEX):
        around = truth[max(0, y - distance) : y + distance + 1, max(0, x - distance) : x + distance + 1]
        inside = len(set(around[around != IGNORE_INDEX].tolist())) == 1
        counts[int(inside)] += [int(truth[y, x] != found[y, x]), 1]
    assert [each.tolist() for each in border_errors(truth, found)] == counts.tolist()
    assert counts.min() > 0


def test_analysis_is_asked_for(folders: tuple[Path, Path]) -> None:
    assert "analysis" not in label_map_iou(*folders, NAMES)
