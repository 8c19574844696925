"""What the doctor knows to be fatal, training refuses in the same words; what is doubtful is one line of training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctor_set import Content, change_json, findings_of, two_parts
from tlvision.cli.main import main
from tlvision.config.load import dump_config, load_config
from tlvision.engine.build import build_run
from tlvision.types import InputError


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return two_parts(tmp_path)


def conflict(content: Content) -> None:
    row = content["annotations"][0]
    content["annotations"].append({**row, "id": 900, "category_id": 2})


def twice(content: Content) -> None:
    row = content["annotations"][0]
    content["annotations"].append({**row, "id": 901, "bbox": [row["bbox"][0] + 0.1, *row["bbox"][1:]]})


def few(content: Content) -> None:
    content["annotations"] = [row for row in content["annotations"] if row["category_id"] == 1 or row["image_id"] < 4]


def annotators(content: Content) -> None:
    rows = content["annotations"]
    rows += [{**row, "id": 500 + row["id"], "user": "bob"} for row in rows[:4]]
    for row in rows[:4]:
        row["user"] = "ann"


def repeated(content: Content) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 902})


def empty(content: Content) -> None:
    content["annotations"][0]["bbox"][2] = 0.0


DOUBTFUL: dict[str, tuple[Callable[[Content], None], str]] = {
    "conflict": (conflict, "1 pair of boxes of different classes on one object (IoU of 0.9 or more)"),
    "twice": (twice, "1 object marked twice (IoU of 0.95 or more)"),
    "few": (few, "1 class with fewer than 10 training images: dog 3"),
    "annotators": (annotators, "2 images labelled by several annotators (ann, bob)"),
    "repeated": (repeated, "1 annotation repeats another one (same image, class and box)"),
    "empty": (empty, "skipped"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_labels_are_one_line_of_training(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    change, sentence = DOUBTFUL[name]
    change_json(tmp_path / "train.json", change)
    warnings = [each.sentence for each in findings_of(values) if each.severity == "warning"]
    assert len([each for each in warnings if sentence in each]) == 1
    built = build_run(load_config(values))
    assert len([each for each in (*built.train.skipped, *built.notes) if sentence in each]) == 1


def test_conflicts_in_validation_are_counted_too(values: dict[str, Any], tmp_path: Path) -> None:
    change_json(tmp_path / "val.json", conflict)
    sentence = "val.json: 1 pair of boxes of different classes on one object (IoU of 0.9 or more)"
    assert sentence in build_run(load_config(values)).notes


def test_equal_images_are_one_line_of_training(values: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "val" / "2.png", tmp_path / "train" / "3.png")
    shutil.copy(tmp_path / "train" / "8.png", tmp_path / "train" / "9.png")
    notes = build_run(load_config(values)).notes
    assert len([each for each in notes if "1 of 12 validation images in the training set" in each]) == 1
    assert len([each for each in notes if "1 image of the same content as another one" in each]) == 1
    warnings = [each.sentence for each in findings_of(values) if each.severity == "warning"]
    assert {*notes} <= {*warnings}


def no_category(content: Content) -> None:
    content["annotations"][3]["category_id"] = 9


def double_ids(content: Content) -> None:
    content["annotations"][3]["id"] = content["annotations"][4]["id"]


def fractions(content: Content) -> None:
    for row in content["annotations"]:
        row["bbox"] = [0.1, 0.1, 0.2, 0.2]


def wrong_size(content: Content) -> None:
    content["images"][2]["width"] = 333


def no_image(content: Content) -> None:
    content["images"][2]["file_name"] = "absent.png"


FATAL = (no_category, double_ids, fractions, wrong_size, no_image)


@pytest.mark.parametrize("change", FATAL)
def test_fatal_labels_are_refused_in_the_same_words(
    change: Callable[[Content], None], values: dict[str, Any], tmp_path: Path
) -> None:
    change_json(tmp_path / "train.json", change)
    errors = [each.sentence for each in findings_of(values) if each.severity == "error"]
    with pytest.raises(InputError) as refused:
        build_run(load_config(values))
    assert f"data.train: {refused.value}" in errors


@pytest.mark.slow
def test_a_damaged_image_stops_training_in_the_same_words(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train" / "7.png"
    path.write_bytes(path.read_bytes()[:-4000])
    (sentence,) = [each.sentence for each in findings_of(values) if each.severity == "error"]
    problem = sentence.partition("(")[2].removesuffix(")")
    values["data"] |= {"image_size": 64, "workers": 0}
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(load_config(values)))
    assert main(["train", str(config)]) == 2
    assert problem in capsys.readouterr().err
