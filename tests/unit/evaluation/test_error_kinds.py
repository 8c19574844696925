"""Each kind of error on hand-made cases; the figures were compared with tidecv 1.0.1 (see docs/evaluation.md)."""

from __future__ import annotations

from typing import Any

import pytest

from tlvision.evaluation.error_kinds import KINDS, error_kinds
from tlvision.evaluation.matching import match
from tlvision.evaluation.read import read_ground_truth, read_predictions

BOX = [10, 10, 40, 40]


def measured(write_files: Any, truth: Any, results: list[dict[str, Any]]) -> dict[str, Any]:
    files = write_files(truth, results)
    objects = read_ground_truth(files[0])
    return error_kinds(match(objects, read_predictions(files[1], objects)))


def scene(boxes: list[list[float]], category: int = 1, crowd: int = 0) -> dict[str, list[dict[str, Any]]]:
    rows = [
        {"id": n, "image_id": 1, "category_id": category, "bbox": box, "iscrowd": crowd, "area": box[2] * box[3]}
        for n, box in enumerate(boxes, start=1)
    ]
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": [{"id": 1, "width": 200, "height": 200}], "annotations": rows, "categories": names}


def row(box: list[float], score: float = 0.9, category: int = 1) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


CASES = {
    "classification": row(BOX, category=2),
    "localisation": row([30, 10, 40, 40]),  # IoU 1/3
    "both": row([30, 10, 40, 40], category=2),
    "background": row([120, 120, 40, 40]),
}


@pytest.mark.parametrize("kind", CASES)
def test_one_wrong_detection_is_of_its_kind(kind: str, write_files: Any) -> None:
    found = measured(write_files, scene([BOX]), [CASES[kind]])
    assert found["AP50"] == 0.0
    counts = {name: found[name]["count"] for name in KINDS if found[name]["count"]}
    about = kind in ("classification", "localisation")  # then the object is not missed as well
    assert counts == {kind: 1} | ({} if about else {"missed": 1})
    assert found[kind]["AP50_lost"] == (1.0 if about else 0.0)
    assert found["false_positives"]["count"] == found["false_negatives"]["count"] == 1


def test_a_second_detection_of_an_object_is_a_duplicate(write_files: Any) -> None:
    others = [[100, 10, 40, 40]]
    found = measured(write_files, scene([BOX, *others]), [row(BOX), row(BOX, 0.8), row(others[0], 0.7)])
    assert found["duplicate"] == {"count": 1, "AP50_lost": pytest.approx(1 - found["AP50"])}
    assert found["AP50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_objects_that_nothing_found_are_missed(write_files: Any) -> None:
    found = measured(write_files, scene([BOX, [100, 100, 40, 40]]), [row(BOX)])
    assert found["missed"] == {"count": 1, "AP50_lost": pytest.approx(1 - 51 / 101)}
    assert found["false_negatives"] == found["missed"]


def test_the_better_of_two_wrong_detections_of_an_object_is_put_right(write_files: Any) -> None:
    shifted, wrong = row([30, 10, 40, 40], 0.9), row(BOX, 0.8, category=2)
    found = measured(write_files, scene([BOX]), [shifted, wrong])
    assert found["localisation"] == {"count": 1, "AP50_lost": 1.0}
    assert found["classification"] == {"count": 1, "AP50_lost": 0.0}


def test_what_lies_in_a_crowd_region_is_no_error(write_files: Any) -> None:
    truth = scene([BOX])
    truth["annotations"] += [{**scene([[100, 100, 80, 80]], crowd=1)["annotations"][0], "id": 2}]
    found = measured(write_files, truth, [row(BOX), row([110, 110, 20, 20], 0.95)])
    assert found["AP50"] == 1.0
    assert {found[name]["count"] for name in KINDS} == {0}


def test_nothing_is_measured_without_an_object(write_files: Any) -> None:
    found = measured(write_files, scene([]), [row(BOX)])
    assert found["AP50"] is None
    assert found["background"] == {"count": 1, "AP50_lost": None}


def test_planted_faults_are_found(write_files: Any, truth: Any) -> None:
    """Boxes shifted by 6 px on objects of 16 px show as localisation, exchanged classes as classification."""
    boxes = [[x, y, 16, 16] for x in range(0, 180, 30) for y in range(0, 180, 30)]
    good = [row([float(value) for value in box], 0.5 + n / 100) for n, box in enumerate(boxes)]
    shifted = [{**each, "bbox": [each["bbox"][0] + 6, each["bbox"][1] + 6, 16, 16]} for each in good]
    exchanged = [{**each, "category_id": 2} for each in good]
    dominant = {}
    for name, results in {"shifted": shifted, "exchanged": exchanged, "cut": good[20:]}.items():
        found = measured(write_files, scene(boxes), results)
        dominant[name] = max(KINDS, key=lambda kind: found[kind]["AP50_lost"])
    assert dominant == {"shifted": "localisation", "exchanged": "classification", "cut": "missed"}
