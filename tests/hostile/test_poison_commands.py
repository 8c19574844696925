"""The commands end with the sentence of the reader, at once, without a traceback; training starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from poison import annotations, file_system, masks, pictures, predictions, structure, tools
from poison.dataset import Case, coco

CHOSEN: list[tuple[Any, str]] = [
    (structure, "cut off in the middle"),
    (structure, "200,000 lists in each other"),
    (structure, "an image id of 70 bits"),
    (annotations, "all crowd"),
    (annotations, "a box of 900 lists"),
    (pictures, "a PNG of 10^9 pixels"),
    (pictures, "a TIFF whose second page has no size"),
    (file_system, "an image that is a pipe"),
]
assert CHOSEN


def case_of(table: Any, name: str) -> Case:
    (found,) = (case for case in table.CASES if case.name == name)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Callable[[Path], Path]:
    """Write a config that trains on a folder, and validates on a sound one."""

    def write(train: Path, **data: Any) -> Path:
        sound = tmp_path / "sound"
        sound.mkdir()
        coco()(sound)
        parts = {
            name: {"json": str(folder / "labels.json"), "images": str(folder / "images")}
            for name, folder in (("train", train), ("val", sound))
        }
        values = {
            "model": {"plugin": "toy", "arch": "tiny_detector", "weights": "none"},
            "data": {**parts, "image_size": 64, **data},
            "train": {"epochs": 1, "device": "cpu"},
            "run": {"out": str(tmp_path / "run"), "report": False},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def spoiled(case: Case, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    case.build(folder)
    return folder


@pytest.mark.parametrize(("table", "name"), CHOSEN, ids=[name for _, name in CHOSEN])
def test_train_and_doctor_say_what_the_reader_says(
    table: Any, name: str, tmp_path: Path, tl: Callable[..., Any], config: Callable[[Path], Path]
) -> None:
    case = case_of(table, name)
    path = config(spoiled(case, tmp_path))
    trained, examined = tl("train", path), tl("doctor", path)
    assert (trained.code, examined.code) == (2, 1)
    for done in (trained, examined):
        assert case.words in done.text
    assert not (tmp_path / "run").exists()


def test_doctor_names_an_image_that_breaks_off(
    tmp_path: Path, tl: Callable[..., Any], config: Callable[[Path], Path]
) -> None:
    done = tl("doctor", config(spoiled(case_of(pictures, "a PNG that breaks off"), tmp_path)))
    assert done.code == 1
    assert "1 image cannot be decoded" in done.text
    assert "a.png" in done.text


@pytest.mark.slow
def test_a_loading_process_names_an_image_that_breaks_off(
    tmp_path: Path, tl: Callable[..., Any], config: Callable[..., Path]
) -> None:
    done = tl("train", config(spoiled(case_of(pictures, "a PNG that breaks off"), tmp_path), workers=2))
    assert done.code != 0
    assert "a.png' is truncated or damaged" in done.text


@pytest.mark.parametrize("name", ["YOLO: a class that is infinite", "CVAT: a mask of 10^9 pixels", "LabelMe: nan"])
def test_convert_and_split_say_what_the_reader_says(name: str, tmp_path: Path, tl: Callable[..., Any]) -> None:
    case = case_of(tools, name)
    folder = spoiled(case, tmp_path)
    labels = next(iter((folder / "labels").glob("export.*")), folder / "labels")
    for command in ("convert", "split"):
        done = tl(command, labels, tmp_path / "out", "--images", folder / "images")
        assert done.code == 2
        assert case.words in done.text
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["predictions: a score of nan", "predictions: images of another dataset"])
def test_evaluate_says_what_the_reader_says(name: str, tmp_path: Path, tl: Callable[..., Any]) -> None:
    case = case_of(predictions, name)
    folder = spoiled(case, tmp_path)
    files = "--gt", folder / "labels.json", "--predictions", folder / "predictions.json"
    done = tl("evaluate", *files, "--output", tmp_path / "metrics.json")
    assert done.code == 2
    assert case.words in done.text
    assert not (tmp_path / "metrics.json").exists()


def test_a_mask_that_cannot_be_drawn_does_not_stop_a_doctor_of_boxes(
    tmp_path: Path, tl: Callable[..., Any], config: Callable[[Path], Path]
) -> None:
    done = tl("doctor", config(spoiled(case_of(masks, "nan in a polygon, for boxes"), tmp_path)))
    assert done.code == 0
    assert "1 segmentation cannot be read" in done.text
