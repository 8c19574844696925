"""A map of scores equals an independent fit, is judged on images that it was not fitted on, and kept if it helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, minimize_scalar

from tlvision.evaluation.calibration import calibration_error
from tlvision.evaluation.matching import Matches, match
from tlvision.evaluation.read import read_ground_truth, read_predictions
from tlvision.evaluation.score_map import METHODS, ScoreMap, fit_scores, fitted_in_words
from tlvision.types import InputError

IMAGES, EACH = 120, 8


def scored(rng: np.random.Generator, temperature: float) -> tuple[Any, Any]:
    """Return scores, and outcomes whose chance is the score after a temperature."""
    scores = rng.uniform(0.1, 0.99, IMAGES * EACH)
    chance = 1 / (1 + ((1 - scores) / scores) ** (1 / temperature))
    return scores, rng.random(len(scores)) < chance


def matches_of(write_files: Any, scores: Any, right: Any) -> Matches:
    """Return matches of 120 images with eight detections each."""
    annotations, results = [], []
    for number, (score, good) in enumerate(zip(scores.tolist(), right.tolist(), strict=True)):
        image, box = number // EACH + 1, [20 * (number % EACH), 0, 10, 10]
        results.append({"image_id": image, "category_id": 1, "bbox": box, "score": score})
        place = box if good else [box[0], 50, 10, 10]
        annotations.append({"id": number + 1, "image_id": image, "category_id": 1, "bbox": place})
    images = [{"id": number + 1, "width": 200, "height": 100} for number in range(IMAGES)]
    files = write_files(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}, results
    )
    truth = read_ground_truth(files[0])
    return match(truth, read_predictions(files[1], truth))


def halves(matches: Matches, seed: int = 0) -> tuple[Any, Any]:
    """Return the detections of the half to fit on, and of the other one."""
    first = np.random.default_rng(seed).permutation(IMAGES)[: IMAGES // 2]
    chosen = np.isin(matches.image, first)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def test_the_temperature_has_the_lowest_log_loss(write_files: Any) -> None:
    matches = matches_of(write_files, *scored(np.random.default_rng(0), 2.0))
    found = fit_scores(matches, "temperature")
    fitted, _ = halves(matches)
    logits, right = np.log(matches.score / (1 - matches.score))[fitted], matches.outcome[fitted, 0]
    loss = minimize_scalar(
        lambda t: np.logaddexp(0, np.where(right == 1, -logits, logits) / t).mean(), bounds=(0.1, 10), method="bounded"
    )
    assert found["kept"]
    assert found["map"]["temperature"] == pytest.approx(loss.x, rel=1e-3)
    assert 1.5 < found["map"]["temperature"] < 2.7


def test_the_isotonic_map_is_that_of_scipy(write_files: Any) -> None:
    matches = matches_of(write_files, *scored(np.random.default_rng(1), 3.0))
    found = fit_scores(matches, "isotonic")
    fitted, _ = halves(matches)
    order = fitted[np.argsort(matches.score[fitted])]
    expected = isotonic_regression(matches.outcome[order, 0].astype(float)).x
    assert ScoreMap.from_json(found["map"]).of(matches.score[order]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_other_half_judges(method: Any, write_files: Any) -> None:
    """Scores that are right in one half and too high in the other: no map that fits one helps the other."""
    rng = np.random.default_rng(2)
    scores, right = scored(rng, 1.0)
    first, _ = halves(matches_of(write_files, scores, right))
    images = np.unique(first // EACH)
    in_first = np.isin(np.arange(IMAGES * EACH) // EACH, images)
    right = np.where(in_first, rng.random(len(scores)) < scores**4, right)
    matches = matches_of(write_files, scores, right)
    found = fit_scores(matches, method)
    _, judged = halves(matches)
    assert found["detections"] == [len(matches.label) - len(judged), len(judged)]
    assert found["error"][0] < 0.05 < found["error"][1]
    assert found["error"][0] == pytest.approx(calibration_error(matches.score[judged], matches.outcome[judged, 0]))
    assert (found["kept"], found["map"]) == (False, None)
    assert "not kept: the calibration error does not fall" in fitted_in_words(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("scores", "right", "note"),
    [
        (np.full(IMAGES * EACH, 0.05), np.arange(IMAGES * EACH) % 2, "0 detections of score 0.1 or more"),
        (np.linspace(0.2, 0.9, IMAGES * EACH), np.ones(IMAGES * EACH), "not right more often"),
        (np.tile([0.2, 0.9], IMAGES * EACH // 2), np.tile([1, 0], IMAGES * EACH // 2), "not right more often"),
    ],
)
def test_without_a_map_there_is_a_reason(method: Any, scores: Any, right: Any, note: str, write_files: Any) -> None:
    found = fit_scores(matches_of(write_files, scores, right.astype(bool)), method)
    assert (found["kept"], found["map"], found["error"]) == (False, None, None)
    assert note in found["note"]


@pytest.mark.parametrize(
    "content",
    [
        None, [], {}, {"temperature": 0}, {"temperature": "x"}, {"temperature": float("nan")}, {"points": []},
        {"points": [[0.1]]}, {"points": [[0.1, 0.5], [0.2, 0.4]]}, {"points": [[0.1, 1.5]]}, {"points": 3},
        {"points": [[0.1, float("nan")]]},
    ],
)  # fmt: skip
def test_a_map_that_is_none_is_refused(content: Any) -> None:
    with pytest.raises(InputError):
        ScoreMap.from_json(content)


def test_a_map_survives_a_file() -> None:
    for each in (ScoreMap(temperature=1.5), ScoreMap(points=((0.25, 0.125), (0.5, 0.5)))):
        assert ScoreMap.from_json(each.as_json()) == each
