"""Labels that predictions contradict: each kind of error is found, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from doctor_set import Content, change_json, picture, two_parts
from tiny import QUIET
from tlvision.analysis.doctor import examine, write_doctor_page
from tlvision.analysis.doctor.label_noise import KINDS, label_noise
from tlvision.analysis.doctor.pixel_noise import disagreements
from tlvision.cli.main import main
from tlvision.config.load import dump_config, load_config
from tlvision.types import InputError, Json

NAMES = ("cat", "dog")


def scene(images: int = 30) -> tuple[list[Json], list[Json]]:
    """Return labels, two in each image, and predictions that agree with all of them."""
    generator = np.random.default_rng(0)
    labels: list[Json] = []
    for number in range(1, images + 1):
        for category in (0, 1):
            side = float(generator.uniform(30, 60))
            box = [20.0 + 150 * category, 20.0, side, side]
            labels.append({"image_id": number, "category_id": category, "bbox": box, "iscrowd": 0})
    predictions = []
    for row in labels:
        x, y, width, height = row["bbox"]
        moved = [x + float(generator.normal(0, 1)), y + float(generator.normal(0, 1)), width, height]
        score = float(generator.uniform(0.8, 0.95))
        predictions.append(
            {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": moved, "score": score}
        )
    return labels, predictions


def found(labels: list[Json], predictions: list[Json]) -> list[tuple[str, int, int | None]]:
    return [
        (each.kind, each.image_id, each.row) for each in label_noise(NAMES, list(range(1, 31)), labels, predictions)
    ]


def test_labels_that_are_predicted_are_not_suspicious() -> None:
    assert found(*scene()) == []


def missing(labels: list[Json], predictions: list[Json]) -> None:
    del labels[10]


def other_class(labels: list[Json], predictions: list[Json]) -> None:
    labels[10]["category_id"] = 1


def moved(labels: list[Json], predictions: list[Json]) -> None:
    x, y, width, height = labels[10]["bbox"]
    labels[10]["bbox"] = [x + 0.4 * width, y, width, height]


def group(labels: list[Json], predictions: list[Json]) -> None:
    labels[10]["bbox"] = [20.0, 20.0, 125.0, 60.0]
    predictions[10]["bbox"] = [22.0, 22.0, 55.0, 55.0]
    predictions.append({**predictions[10], "bbox": [85.0, 22.0, 55.0, 55.0]})


def invented(labels: list[Json], predictions: list[Json]) -> None:
    labels.append({**labels[10], "bbox": [100.0, 150.0, 40.0, 40.0]})


PLANTED: dict[str, tuple[Callable[[list[Json], list[Json]], None], tuple[str, int, int | None]]] = {
    "missing": (missing, ("missing", 6, None)),
    "class": (other_class, ("class", 6, 10)),
    "box": (moved, ("box", 6, 10)),
    "group": (group, ("group", 6, 10)),
    "nothing": (invented, ("nothing", 6, 60)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_error_is_found_and_nothing_else(kind: str) -> None:
    plant, expected = PLANTED[kind]
    labels, predictions = scene()
    plant(labels, predictions)
    assert found(labels, predictions) == [expected]


def test_crowd_regions_are_neither_suspicious_nor_hide_errors() -> None:
    labels, predictions = scene()
    labels[10]["iscrowd"] = 1
    labels.append({"image_id": 7, "category_id": 0, "bbox": [100.0, 100.0, 99.0, 99.0], "iscrowd": 1})
    assert found(labels, predictions) == []


def test_more_suspicious_labels_come_first() -> None:
    labels, predictions = scene()
    for row, score in ((10, 0.82), (20, 0.99)):
        labels[row]["category_id"] = 1
        predictions[row]["score"] = score
    assert [each[2] for each in found(labels, predictions)] == [20, 10]


def test_a_class_that_the_model_does_not_find_is_not_suspicious() -> None:
    labels, predictions = scene()
    assert found(labels, [row for row in predictions if row["category_id"] == 0]) == []


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return two_parts(tmp_path)


def results(path: Path) -> list[Json]:
    keys = ("image_id", "category_id", "bbox")
    return [{**{key: row[key] for key in keys}, "score": 0.9} for row in json.loads(path.read_text())["annotations"]]


def test_predictions_of_a_file_are_compared_with_the_training_labels(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results(tmp_path / "train.json")))

    def change(content: Content) -> None:
        content["annotations"][6]["category_id"] = 2
        del content["annotations"][0]

    change_json(tmp_path / "train.json", change)
    (tmp_path / "config.yaml").write_text(dump_config(load_config(values)))
    out = tmp_path / "out"
    command = ["doctor", str(tmp_path / "config.yaml"), "--predictions", str(tmp_path / "results.json")]
    assert main([*command, "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "data.train: 1 place without a label in which an object is predicted with confidence: 0.png" in printed
    assert "data.train: 1 label of a class other than the predicted one: 3.png (annotation 7)" in printed
    noise = [
        each for each in json.loads((out / "findings.json").read_text())["findings"] if each["check"] == "label_noise"
    ]
    assert [place for each in noise for place in each["where"]] == [
        {"part": "train", "file": "0.png", "predicted": "cat", "box": [5.0, 5.0, 20.0, 23.0], "score": 0.9},
        {
            "part": "train",
            "file": "3.png",
            "annotation": 7,
            "label": "dog",
            "predicted": "cat",
            "box": [5.0, 5.0, 21.0, 24.0],
            "score": 0.9,
        },
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert "label: dog, predicted: cat, score 0.90" in page


def test_predictions_of_a_folder_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder\. Give a COCO results list"):
        examine(load_config(values), predictions=tmp_path)


def test_a_run_that_was_trained_on_the_images_is_said_to_be(
    small_run: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    config = load_config(str(small_run / "config.yaml"))
    parts, findings = examine(config, run=small_run)
    sentences = [each.sentence for each in findings if each.check == "label_noise"]
    trained = [each for each in sentences if "was trained on" in each]
    assert trained
    count = len(next(part for part in parts if part.name == "train").data.samples)
    assert f"was trained on {count} of these {count} images and has memorised their labels" in trained[0]
    assert write_doctor_page(tmp_path / "page.html", parts, findings).exists()


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on label maps; its data lie beside it."""
    import tlvision

    folder = tmp_path_factory.mktemp("segmenter")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(8):
        picture(number, size=(64, 64)).save(folder / "images" / f"{number}.png")
        labels = np.zeros((64, 64), np.uint8)
        labels[16:48, 16:48] = 1
        Image.fromarray(labels).save(folder / "masks" / f"{number}.png")
    source = {"images": str(folder / "images"), "masks": str(folder / "masks")}
    tlvision.train(
        {
            "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
            "data": {"classes": ["floor", "part"], "train": source, "val": source, "image_size": 64, "workers": 0},
            "train": {"epochs": 1, "device": "cpu"},
            "hooks": [QUIET],
            "run": {"out": str(folder / "run"), "report": False},
        }
    )
    return folder / "run"


def test_label_maps_are_compared_with_a_run(segmenter: Path) -> None:
    _, findings = examine(load_config(str(segmenter / "config.yaml")), run=segmenter)
    sentences = [each.sentence for each in findings if each.check == "label_noise"]
    assert [each for each in sentences if "was trained on 8 of these 8 images" in each]


def test_a_run_of_label_maps_cannot_judge_boxes(segmenter: Path, values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"has other classes than data\.train"):
        examine(load_config(values), run=segmenter)


def test_a_run_of_boxes_cannot_judge_label_maps(segmenter: Path, small_run: Path) -> None:
    with pytest.raises(InputError, match="no COCO json of objects"):
        examine(load_config(str(segmenter / "config.yaml")), run=small_run)


def test_regions_of_label_maps_that_are_confidently_of_another_class() -> None:
    """The threshold is the mean probability of a class, so an unsure disagreement is none; nor is one at a border."""
    labels = np.zeros((6, 50, 50), np.uint8)
    labels[:, :, 25:] = 1
    predicted = labels.astype(np.int64)
    confidence = np.full((6, 50, 50), 0.9, np.float32)
    labels[1, 10:20, 5:15] = 1  # wrong and sure
    labels[2, 10:20, 5:15], confidence[2, 10:20, 5:15] = 1, 0.6  # wrong and unsure
    labels[3, :, 24] = 1  # a border
    labels[4, 10:25, 5:15] = 255  # unknown
    labels[5, 10:25, 5:20] = 1
    rows = [
        ({"file": str(number)}, *each) for number, each in enumerate(zip(labels, predicted, confidence, strict=True))
    ]
    assert disagreements(rows, ("floor", "part")) == [
        {"file": "5", "label": "part", "predicted": "floor", "box": [5, 10, 15, 15], "score": 0.09},
        {"file": "1", "label": "part", "predicted": "floor", "box": [5, 10, 10, 10], "score": 0.04},
    ]


def test_the_benchmark_plants_what_it_says(tools: Callable[[str], Any]) -> None:
    plant = tools("benchmarks.label_noise").plant
    labels, _ = scene()
    noisy, planted = plant(labels, dict.fromkeys(range(1, 31), (400, 300)), 2, 5, 0)
    assert {name: len(rows) for name, rows in planted.items()} == dict.fromkeys(planted, 5)
    assert len(planted) == 4
    assert len(noisy) == len(labels)  # five removed, five added
    changed = [row for row in noisy if row not in labels]
    assert len(changed) == 15
    assert all(row in noisy for name in ("class changed", "shifted", "added") for row in planted[name])
    assert not any(row in noisy for row in planted["removed"])
