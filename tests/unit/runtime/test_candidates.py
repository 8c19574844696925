"""Candidates are chosen as detectors choose them: compared with slow loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlvision.plugin.export import Candidates
from tlvision.runtime.candidates import read_candidates

PLACES, CLASSES = 60, 4
SIZE = (100, 100)


@pytest.fixture
def outputs() -> dict[str, Any]:
    """Outputs of a graph for one image, with boxes that hardly overlap."""
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 90, (PLACES, 2))
    return {
        "boxes": np.concatenate([corner, corner + rng.uniform(1, 9, (PLACES, 2))], axis=1).astype(np.float32)[None],
        "scores": rng.permutation(PLACES * CLASSES).reshape(1, PLACES, CLASSES).astype(np.float32) / 240,
        "levels": np.sort(rng.integers(0, 3, PLACES))[None],
        "factors": rng.random((1, PLACES)).astype(np.float32),
    }


def pairs(outputs: dict[str, Any], floor: float) -> list[tuple[float, int, int]]:
    """Return score, place and class of all pairs above the floor, best first."""
    scores = outputs["scores"][0]
    found = [(float(scores[at, label]), at, label) for at in range(PLACES) for label in range(CLASSES)]
    return sorted((pair for pair in found if pair[0] > floor), reverse=True)


def read(outputs: dict[str, Any], settings: Candidates) -> list[tuple[float, int, int]]:
    """Return score, place and class of what is found; places by their boxes, which all differ."""
    (found,) = read_candidates(outputs, SIZE, settings, 0.0)
    places = [int(np.abs(outputs["boxes"][0] - box).sum(axis=1).argmin()) for box in found.boxes]
    return list(zip(found.scores.tolist(), places, found.labels.tolist(), strict=True))


def test_without_suppression_the_best_pairs_of_place_and_class_are_found(outputs: dict[str, Any]) -> None:
    settings = Candidates(score_floor=0.2, nms_iou=None, most=25)
    assert read(outputs, settings) == pairs(outputs, 0.2)[:25]


def test_a_place_has_its_best_class_alone(outputs: dict[str, Any]) -> None:
    settings = Candidates(score_floor=0.2, nms_iou=None, most=500, best_class=True)
    first: dict[int, tuple[float, int, int]] = {}
    for pair in pairs(outputs, 0.2):
        first.setdefault(pair[1], pair)
    assert 20 < len(first) < len(pairs(outputs, 0.2))
    assert read(outputs, settings) == list(first.values())


@pytest.mark.parametrize("group", ["level", "class"])
def test_each_group_has_its_own_limit(outputs: dict[str, Any], group: Any) -> None:
    settings = Candidates(score_floor=0.1, nms_iou=None, most=500, most_before=7, most_before_of=group)
    counts: dict[int, int] = {}
    wanted = []
    for score, place, label in pairs(outputs, 0.1):
        number = label if group == "class" else int(outputs["levels"][0, place])
        counts[number] = counts.get(number, 0) + 1
        if counts[number] <= 7:
            wanted.append((score, place, label))
    assert max(counts.values()) > 7
    assert read(outputs, settings) == wanted


def test_factors_change_the_order_after_the_choice(outputs: dict[str, Any]) -> None:
    factors = outputs["factors"][0]
    for floor in (0.0, 0.3):
        settings = Candidates(score_floor=0.1, nms_iou=None, most=500, most_before=30, factor_floor=floor)
        products = [(np.float32(score) * factors[at], at, label) for score, at, label in pairs(outputs, 0.1)[:30]]
        wanted = sorted((row for row in products if row[0] >= floor), reverse=True)
        assert read(outputs, settings) == [(float(score), at, label) for score, at, label in wanted]
        assert 5 < len(wanted) <= 30
        assert (len(wanted) < 30) == (floor > 0)
