"""What the errors in each image cost: against a slow loop over repaired matches, and the errors that are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tlvision.evaluation.average_precision import average_precision
from tlvision.evaluation.image_costs import above_thresholds, describe_images, image_costs
from tlvision.evaluation.matching import Matches, match
from tlvision.evaluation.read import GroundTruth
from tlvision.types import ClassThresholds


def random_case(seed: int, images: int = 12, classes: int = 4) -> tuple[GroundTruth, list[dict[str, Any]]]:
    """Objects, some of them crowd regions, and detections of which some are shifted, of another class or made up."""
    rng = np.random.default_rng(seed)
    objects, results = [], []
    for image in range(images):
        for _ in range(int(rng.integers(0, 6))):
            x, y, side = *rng.integers(0, 200, 2), int(rng.integers(10, 60))
            box = [int(x), int(y), side, side]
            row = {"image_id": image, "category_id": int(rng.integers(classes)), "bbox": box, "area": side * side}
            objects.append({**row, "iscrowd": int(rng.random() < 0.1)})
            for _ in range(int(rng.integers(0, 3))):
                shift = int(rng.integers(0, 20))
                other = int(rng.integers(classes)) if rng.random() < 0.2 else row["category_id"]
                found = [box[0] + shift, box[1], side, side]
                score = round(float(rng.random()), 1)  # many equal scores
                results.append({"image_id": image, "category_id": other, "bbox": found, "score": score})
        if rng.random() < 0.5:
            results.append(
                {"image_id": image, "category_id": 0, "bbox": [300, 300, 9, 9], "score": float(rng.random())}
            )
    names = [{"id": index, "name": f"class {index}"} for index in range(classes)]
    return GroundTruth(None, [{"id": image} for image in range(images)], names, objects, 0), results  # type: ignore[arg-type]


def repaired(matches: Matches, image: int) -> Matches:
    """Return the matches in which one image has no error: what `image_costs` defines, one image at a time."""
    outcome = matches.outcome.copy()
    outcome[(matches.image == image) & (outcome[:, 0] == 0)] = -1
    lost = ~matches.object_crowd & (matches.object_image == image)
    lost[matches.found[matches.found[:, 0] >= 0, 0]] = False
    labels = matches.object_label[lost]
    count = len(labels)
    return replace(
        matches,
        image=np.append(matches.image, [image] * count).astype(np.int64),
        label=np.append(matches.label, labels).astype(np.int64),
        score=np.append(matches.score, [np.inf] * count),
        outcome=np.concatenate([outcome, np.ones((count, outcome.shape[1]), np.int8)]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_costs_equal_those_of_a_loop_over_repaired_matches(seed: int) -> None:
    matches = match(*random_case(seed), thresholds=(0.5,))
    before = np.nanmean(average_precision(matches))
    expected = [np.nanmean(average_precision(repaired(matches, image))) - before for image in range(12)]
    assert max(expected) > 0.01
    assert image_costs(matches) == pytest.approx(np.array(expected), abs=1e-12)


def test_costs_do_not_depend_on_the_size_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = match(*random_case(3), thresholds=(0.5,))
    whole = image_costs(matches)
    monkeypatch.setattr("tlvision.evaluation.image_costs._AT_A_TIME", 1)
    assert image_costs(matches) == pytest.approx(whole, abs=1e-12)


def test_a_perfect_image_and_a_model_without_detections() -> None:
    truth, _ = random_case(1)
    perfect = [{**row, "score": 0.9} for row in truth.annotations if not row["iscrowd"]]
    assert image_costs(match(truth, perfect, thresholds=(0.5,))).tolist() == [0.0] * 12
    nothing = image_costs(match(truth, [], thresholds=(0.5,)))
    with_objects = {row["image_id"] for row in truth.annotations if not row["iscrowd"]}
    assert set(np.flatnonzero(nothing).tolist()) == with_objects


@pytest.fixture
def one_image() -> Matches:
    """Return an image with a cat that is found, a dog taken for a cat, and a cat that is missed."""
    boxes = [[0, 0, 40, 40], [100, 0, 40, 40], [200, 0, 40, 40]]
    objects = [
        {"image_id": 5, "category_id": category, "bbox": box, "area": 1600, "iscrowd": 0}
        for category, box in zip((1, 2, 1), boxes, strict=True)
    ]
    classes = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "bird"}]
    truth = GroundTruth(None, [{"id": 5}], classes, objects, 0)  # type: ignore[arg-type]
    found = [
        {"image_id": 5, "category_id": 3, "bbox": [300, 300, 20, 20], "score": 0.1},
        {"image_id": 5, "category_id": 1, "bbox": boxes[1], "score": 0.5},
        {"image_id": 5, "category_id": 1, "bbox": boxes[0], "score": 0.9},
    ]
    return match(truth, found, thresholds=(0.5,))


def test_errors_are_named_at_the_operating_point(one_image: Matches) -> None:
    costs = image_costs(one_image)
    (errors,) = describe_images(one_image, ClassThresholds(0.25), costs, [0])
    assert (errors.image_id, errors.cost) == (5, pytest.approx(costs[0]))
    assert errors.kinds == {"classification": 1, "missed": 1}
    assert errors.classes == ("cat", "dog")
    assert errors.wrong == ("classification", None), "in the order of the file"
    assert errors.missed == (False, True, True)
    (errors,) = describe_images(one_image, ClassThresholds(0.95), costs, [0])
    assert errors.kinds == {"missed": 3}
    (errors,) = describe_images(one_image, ClassThresholds(0.0), costs, [0])
    assert errors.kinds == {"classification": 1, "background": 1, "missed": 1}
    assert errors.classes == ("cat", "dog", "bird")


@pytest.mark.parametrize("least", [0.0, 0.35, 0.75])
def test_detections_above_a_threshold_are_matched_as_if_there_were_no_others(least: float) -> None:
    truth, results = random_case(4)
    part = above_thresholds(match(truth, results, thresholds=(0.5,)), ClassThresholds(least))
    again = match(truth, [row for row in results if row["score"] >= least], thresholds=(0.5,))
    for name in ("image", "label", "score", "found", "outcome", "pair_detection", "pair_object", "pair_iou"):
        assert getattr(part, name).tolist() == getattr(again, name).tolist(), name
