"""Agreement of several annotators, and the objects that they label twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doctor_set import Content, change_json, findings_of, two_parts
from tlvision.analysis.doctor.annotators import agreement
from tlvision.formats.coco.annotators import KEYS
from tlvision.types import Json


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return two_parts(tmp_path)


def second_annotator(content: Content, key: str = "annotator") -> None:
    """Let bob label the objects of the first ten images again: all alike, but for a class in image 3, no dog in 5."""
    rows = content["annotations"]
    again = [{**row, "id": 500 + row["id"], key: "bob"} for row in rows if row["image_id"] <= 10]
    for row in rows:
        row[key] = "ann"
    for row in again:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x + 2, y + 1, width, height]
        if row["image_id"] == 3:
            row["category_id"] = 3 - row["category_id"]
    rows += [row for row in again if (row["image_id"], row["category_id"]) != (5, 2)]


@pytest.mark.parametrize("key", KEYS)
def test_annotators_are_compared(key: str, values: dict[str, Any], tmp_path: Path) -> None:
    change_json(tmp_path / "train.json", lambda content: second_annotator(content, key))
    found = findings_of(values)
    assert [
        each.severity for each in found if "10 images labelled by several annotators (ann, bob)" in each.sentence
    ] == ["warning"]
    measured = next(each for each in found if each.check == "annotators")
    # 20 boxes of ann, 19 of bob; 19 are matched, 17 of them with one class: F1 = 2 * 17 / 39.
    assert "a mean F1 of 0.87 at IoU 0.5 (ann and bob 0.87); of 19 objects that two found, 89%" in measured.sentence
    assert [(place["file"], place["score"]) for place in measured.where] == [("2.png", 1.0), ("4.png", 0.3333)]


def test_one_annotator_for_each_image_is_no_finding(values: dict[str, Any], tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for row in content["annotations"]:
            row["annotator"] = "ann" if row["image_id"] % 2 else "bob"

    change_json(tmp_path / "train.json", change)
    assert findings_of(values) == []


def test_boxes_are_matched_once_and_the_closest_first() -> None:
    def row(x: float, category: int = 1) -> Json:
        return {"category_id": category, "bbox": [x, 0.0, 10.0, 10.0]}

    found = agreement([row(0), row(2)], [row(1, 2), row(2)])
    assert (found.matched, found.same_class, found.boxes) == (2, 1, 4)
    assert found.f1 == 0.5
    assert agreement([], []).f1 == 1.0
    assert agreement([row(0)], []).f1 == 0.0
