"""Before training: something to learn, something to measure, and no validation image among the training images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlvision
from tiny import QUIET
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.types import InputError, RunError

Json = dict[str, Any]


@pytest.fixture
def config(tiny_config: Json, tiny_dataset: Path, tmp_path: Path) -> Json:
    """The tiny run with copies of its json files, which a test may change."""
    for name in ("train", "val"):
        path = tmp_path / f"{name}.json"
        path.write_text((tiny_dataset / f"{name}.json").read_text())
        tiny_config["data"][name]["json"] = str(path)
    tiny_config["data"]["workers"] = 0
    return tiny_config


def change(config: Json, name: str, edit: Any) -> None:
    path = Path(config["data"][name]["json"])
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def notes(config: Json) -> str:
    return "\n".join(build_run(load_config(config)).notes)


def only(name_id: int) -> Any:
    return lambda content: content.update(
        annotations=[row for row in content["annotations"] if row["category_id"] == name_id]
    )


def test_clean_data_have_no_note_but_that_they_are_few(config: Json) -> None:
    assert notes(config) == "train.json: 2 classes with fewer than 10 training images: dark 8, light 8"


def test_a_class_without_an_object_is_counted(config: Json) -> None:
    change(config, "train", only(3))
    assert "train.json: no object of 1 class, not learned: light" in notes(config)
    change(config, "val", only(3))
    assert "val.json: no object of 1 class, not measured: light" in notes(config)


def test_objects_that_vanish_at_the_size_of_the_input(config: Json) -> None:
    def shrink(content: Json) -> None:
        for row in content["annotations"][:2]:
            row["bbox"][2] = 1.5

    change(config, "train", shrink)
    assert "train.json: 2 of " in notes(config)
    assert "2 px or less high or wide at image_size 96 (the smallest 1.5 px) and are not learned" in notes(config)

    def shrink_all(content: Json) -> None:
        for row in content["annotations"]:
            row["bbox"][2:] = [1, 1]

    change(config, "train", shrink_all)
    with pytest.raises(InputError, match=r"which leaves none; raise data\.image_size"):
        notes(config)


def test_validation_images_in_the_training_set_are_named_by_content(
    config: Json, tiny_dataset: Path, tmp_path: Path
) -> None:
    images = tmp_path / "val_images"
    images.mkdir()
    content = json.loads(Path(config["data"]["val"]["json"]).read_text())
    for number, row in enumerate(content["images"]):
        source = tiny_dataset / "images" / ("001.png" if number == 0 else row["file_name"])
        (images / row["file_name"]).write_bytes(source.read_bytes())
    config["data"]["val"]["images"] = str(images)
    assert "1 of 4 validation images in the training set as well" in notes(config)
    assert "= 001.png" in notes(config)


def test_a_metric_that_cannot_be_measured_is_refused_before_training(config: Json, tmp_path: Path) -> None:
    config["evaluate"] = {"select": "bbox/APl"}
    with pytest.raises(InputError, match=r"'bbox/APl' cannot be measured on val\.json.*choose one of bbox/AP"):
        build_run(load_config(config))
    assert not (tmp_path / "run").exists()


def test_what_the_evaluation_refuses_is_refused_before_training(config: Json, tmp_path: Path) -> None:
    change(config, "val", lambda content: content["annotations"][0].update(area="12"))
    with pytest.raises(InputError, match="'area' must be a number"):
        tlvision.train(config)
    assert not (tmp_path / "run").exists()


def test_unusable_boxes_count_neither_in_training_nor_in_the_evaluation(config: Json) -> None:
    def add(content: Json) -> None:
        first = content["annotations"][0]
        content["annotations"].append({**first, "id": 999, "bbox": [500, 500, 20, 20]})
        for row in content["images"]:
            del row["width"], row["height"]  # the json does not tell that this is outside

    change(config, "val", add)
    config["train"]["epochs"] = 1
    result = tlvision.train(config)
    assert (
        result.metrics["counts"]["ground_truths"]
        == len(json.loads(Path(config["data"]["val"]["json"]).read_text())["annotations"]) - 1
    )


def test_a_first_epoch_without_an_object_stops_the_run(config: Json) -> None:
    """Every object is learnable, but every window of 32 px misses them: the first epoch's inputs hold nothing."""
    from tlvision.data import batches

    config["train"]["epochs"] = 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches.Batch, "has_targets", lambda self: False)
        with pytest.raises(RunError, match="nothing was learned: none of the 12 network inputs of the first epoch"):
            tlvision.train(config)


def label_maps(folder: Path, values: tuple[int, int]) -> Json:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(4):
            mask = np.full((64, 64), values[0], np.uint8)
            mask[10:30, 10:30] = values[1]
            Image.fromarray(mask).save(folder / "masks" / split / f"{number}.png")
            rng = np.random.default_rng([number, split == "val"])
            Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(
                folder / "images" / split / f"{number}.png"
            )
    (folder / "classes.txt").write_text("background\ncrack\n")
    data: Json = {
        split: {"images": str(folder / "images" / split), "masks": str(folder / "masks" / split)}
        for split in ("train", "val")
    }
    return {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {
            **data,
            "classes": str(folder / "classes.txt"),
            "image_size": 64,
            "workers": 0,
            "batch": {"labelled": 2},
            "augment": {"mosaic": 0},
        },
        "train": {"epochs": 1, "device": "cpu"},
        "hooks": [QUIET],
        "run": {"out": str(folder / "run")},
    }


def test_masks_of_0_and_255_are_an_error_that_tells_the_way_and_the_way_works(tmp_path: Path) -> None:
    config = label_maps(tmp_path, (0, 255))
    with pytest.raises(
        InputError, match=r"only the class 'background' has pixels.*10 % .*\{background: 0, crack: 255\}"
    ):
        tlvision.train(config)
    config["data"]["classes"] = {"background": 0, "crack": 255}
    metrics = tlvision.train(config).metrics
    assert metrics["per_class"]["crack"]["ground_truths"] == 4 * 400
    assert metrics["counts"]["ignored"] == 0


def test_one_class_alone_is_an_error(tmp_path: Path) -> None:
    config = label_maps(tmp_path, (0, 255))
    config["data"]["classes"] = ["crack"]
    with pytest.raises(InputError, match="there is one class, 'crack', so every pixel would be predicted as it"):
        tlvision.train(config)


def test_label_maps_without_any_class_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class has a pixel"):
        tlvision.train(label_maps(tmp_path, (255, 255)))


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("evaluate", {"window": 64}, r"evaluate\.window: 64 has no effect"),
        ("evaluate", {"boundary": True}, r"evaluate\.boundary: True has no effect"),
    ],
)
def test_keys_that_have_no_effect_are_refused(config: Json, section: str, values: Json, words: str) -> None:
    config[section] = values
    with pytest.raises(InputError, match=words):
        build_run(load_config(config))


def test_more_objects_than_detections_are_told_and_the_limit_can_be_raised(config: Json) -> None:
    def crowd(content: Json) -> None:
        image = content["images"][0]["id"]
        content["annotations"] = [
            {"id": k + 1, "image_id": image, "category_id": 3, "bbox": [4 * (k % 20), 8 * (k // 20), 4, 6], "area": 24,
             "iscrowd": 0}
            for k in range(120)
        ]  # fmt: skip

    change(config, "val", crowd)
    assert "val.json: 1 image with more than 100 objects of a class (up to 120)" in notes(config)
    config["train"]["epochs"] = 1
    metrics = tlvision.train(config).metrics
    assert metrics["counts"]["objects_above_max_detections"] == 20
    assert metrics["counts"]["most_objects"] == 120
    config["evaluate"] = {"max_detections": 120}
    metrics = tlvision.train(config).metrics
    assert "AR120" in metrics["bbox"]
    assert "objects_above_max_detections" not in metrics["counts"]
