"""Thresholds are chosen as the rule says, and a class that cannot choose one says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlvision.evaluation.curves import at_thresholds
from tlvision.evaluation.matching import Matches, match
from tlvision.evaluation.operating_point import DEFAULT_SCORE, Rule, choose_thresholds
from tlvision.evaluation.read import read_ground_truth, read_predictions
from tlvision.types import ClassThresholds, InputError


def matches_of(write_files: Any, outcomes: dict[str, list[tuple[float, bool]]], missed: int = 0) -> Matches:
    """Return matches of one image with the given scores and outcomes; `missed` objects of each class are not found."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for category, rows in enumerate(outcomes.values(), start=1):
        for number, (score, right) in enumerate(rows + [(0.0, False)] * missed):
            box = [20 * number, 20 * category, 10, 10]
            lost = number >= len(rows)
            if right or lost:
                annotations.append({"id": len(annotations) + 1, "image_id": 1, "category_id": category, "bbox": box})
            if not lost:
                results.append({"image_id": 1, "category_id": category, "bbox": box, "score": score})
    categories = [{"id": number, "name": name} for number, name in enumerate(outcomes, start=1)]
    truth = {"images": [{"id": 1, "width": 9000, "height": 9000}], "annotations": annotations, "categories": categories}
    files = write_files(truth, results)
    objects = read_ground_truth(files[0])
    return match(objects, read_predictions(files[1], objects))


GOOD = [(0.9 - n / 100, True) for n in range(12)]
BAD = [(0.6 - n / 100, False) for n in range(12)]


def test_the_best_f1_lies_between_right_and_wrong(write_files: Any) -> None:
    point = choose_thresholds(matches_of(write_files, {"cat": GOOD + BAD}))
    assert 0.6 < point.thresholds.per_class["cat"] <= 0.79
    assert point.notes == {}


@pytest.mark.parametrize("seed", range(5))
def test_f1_is_the_highest_of_all_thresholds(seed: int, write_files: Any) -> None:
    rng = np.random.default_rng(seed)
    rows = [(round(float(score), 2), bool(right)) for score, right in zip(rng.random(60), rng.random(60) < 0.6)]  # noqa: B905
    matches = matches_of(write_files, {"cat": rows}, missed=5)
    chosen = choose_thresholds(matches).thresholds
    rows_at = [at_thresholds(matches, ClassThresholds(each))["per_class"]["cat"] for each in np.linspace(0, 1, 201)]
    best = max(row["f1"] or 0 for row in rows_at)
    assert at_thresholds(matches, chosen)["per_class"]["cat"]["f1"] == pytest.approx(best)


def test_precision_and_recall_are_reached_where_they_can_be(write_files: Any) -> None:
    mixed = sorted([*GOOD, (0.85, False), *BAD], reverse=True)
    matches = matches_of(write_files, {"cat": mixed}, missed=1)
    found = at_thresholds(matches, choose_thresholds(matches, Rule("precision", 0.9)).thresholds)["per_class"]["cat"]
    assert found["precision"] >= 0.9
    assert found["right"] == 12  # the lowest threshold that reaches it
    found = at_thresholds(matches, choose_thresholds(matches, Rule("recall", 0.5)).thresholds)["per_class"]["cat"]
    assert found["recall"] >= 0.5
    assert found["right"] == 7  # the highest threshold that reaches it


def test_what_is_not_reached_is_said(write_files: Any) -> None:
    matches = matches_of(write_files, {"cat": [(0.95, False), *GOOD]}, missed=12)
    point = choose_thresholds(matches, Rule("precision", 0.99))
    assert point.notes["cat"] == "precision 0.99 is not reached; the highest is 0.923"
    assert choose_thresholds(matches, Rule("recall", 0.9)).notes["cat"].endswith("the highest is 0.500")


def test_a_class_with_few_objects_gets_the_threshold_of_all_and_says_so(write_files: Any) -> None:
    matches = matches_of(write_files, {"cat": GOOD + BAD, "dog": GOOD[:3]})
    point = choose_thresholds(matches)
    assert "dog" not in point.thresholds.per_class
    assert "3 objects, 10 are needed" in point.notes["dog"]
    row = point.as_json(matches)["per_class"]["dog"]
    assert row["threshold"] == point.thresholds.default
    assert "note" in row


def test_too_few_objects_in_all_are_said_too(write_files: Any) -> None:
    point = choose_thresholds(matches_of(write_files, {"cat": GOOD[:3]}))
    assert point.thresholds.default == DEFAULT_SCORE
    assert "3 objects in all classes" in point.notes[""]


def test_a_rule_needs_a_value_that_can_be_reached() -> None:
    for goal, value in (("precision", 1.5), ("recall", 0.0), ("recall", None), ("f1", 0.5)):
        with pytest.raises(InputError):
            Rule(goal, value)  # type: ignore[arg-type]
