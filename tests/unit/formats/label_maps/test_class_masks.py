"""Masks of single classes, one file for each image and class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import QUIET
from tlvision.config.load import load_config
from tlvision.engine.labels import resolve_labels
from tlvision.formats.label_maps import find_class_masks
from tlvision.types import InputError

ROAD = np.array([[1, 1, 0, 0]] * 2, bool)
CAR = np.array([[0, 1, 1, 0]] * 2, bool)
LAYOUTS = ("masks/{class}/{stem}.png", "masks/{stem}_{class}.png", "masks/{stem}/{class}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for stem in ("a", "a_b"):
        Image.new("RGB", (4, 2)).save(tmp_path / "images" / f"{stem}.jpg")
    return tmp_path


def put(folder: Path, layout: str, names: tuple[str, str], inside: np.ndarray[Any, Any], mode: str = "L") -> Path:
    stem, name = names
    path = folder / layout.replace("{stem}", stem).replace("{class}", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((inside * 255).astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_are_joined(layout: str, folder: Path) -> None:
    put(folder, layout, ("a", "the_road"), ROAD)
    put(folder, layout, ("a", "car"), CAR, "1")
    put(folder, layout, ("a_b", "car"), CAR, "RGBA")
    pattern = str(folder / layout)
    masks = find_class_masks(pattern, folder / "images", ["the_road", "car"], background=True)
    assert masks.names == ("the_road", "car", "background")
    assert masks.write(folder / "out") == [
        "2 pixels of 1 image are in masks of two classes, and the later class of the_road, car, background counts: a"
    ]
    assert np.asarray(Image.open(folder / "out" / "a.png")).tolist() == [[0, 1, 1, 2]] * 2
    assert np.asarray(Image.open(folder / "out" / "a_b.png")).tolist() == [[2, 1, 1, 2]] * 2
    unknown = find_class_masks(pattern, folder / "images", None, background=False)
    assert unknown.names == ("car", "the_road")
    unknown.write(folder / "other")
    assert np.asarray(Image.open(folder / "other" / "a_b.png")).tolist() == [[255, 0, 0, 255]] * 2
    assert unknown.digest != masks.digest


def test_a_config_takes_a_pattern(folder: Path) -> None:
    for stem in ("a", "a_b"):
        put(folder, LAYOUTS[0], (stem, "road"), ROAD)
        put(folder, LAYOUTS[0], (stem, "car"), CAR)
    part = {"masks": LAYOUTS[0], "images": "images"}
    content = {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {"train": part, "val": part, "classes": {"merge": {"thing": ["car", "road"]}}},
        "train": {"epochs": 1},
        "hooks": [QUIET],
        "run": {"out": str(folder / "run")},
    }
    (folder / "config.json").write_text(json.dumps(content))
    config, sentences = resolve_labels(load_config(folder / "config.json", []))
    assert config.data.train.masks is not None
    assert len(list(Path(config.data.train.masks).glob("*.png"))) == 2
    assert config.data.classes.names == ["car", "road", "background"]  # type: ignore[union-attr]
    assert config.data.classes.merge == {"thing": ["car", "road"]}  # type: ignore[union-attr]
    assert "masks of car, road, background for 2 images, joined in" in sentences[0]


@pytest.mark.parametrize(
    ("layout", "names", "words"),
    [
        ("masks/{stem}.png", None, "needs {stem} and {class} once each"),
        ("nothing/{class}/{stem}.png", None, "no file matches"),
        (LAYOUTS[0], ["road", "caar"], "no mask of the class 'caar'.* Did you mean 'car'"),
        (LAYOUTS[0], ["road"], "has masks of car, which is not among the classes road"),
    ],
)
def test_what_does_not_fit_is_named(layout: str, names: list[str] | None, words: str, folder: Path) -> None:
    for stem in ("a", "a_b"):
        put(folder, LAYOUTS[0], (stem, "road"), ROAD)
        put(folder, LAYOUTS[0], (stem, "car"), CAR)
    with pytest.raises(InputError, match=words):
        find_class_masks(str(folder / layout), folder / "images", names, background=True)


def test_wrong_masks_are_named(folder: Path) -> None:
    pattern = str(folder / LAYOUTS[0])
    put(folder, LAYOUTS[0], ("a", "road"), ROAD)
    with pytest.raises(InputError, match=r"1 image without a mask of any class at .*: a_b"):
        find_class_masks(pattern, folder / "images", None, background=True)
    path = put(folder, LAYOUTS[0], ("a_b", "road"), np.zeros((3, 4), bool))
    with pytest.raises(InputError, match=r"road/a_b\.png: the mask is 4 x 3, unlike"):
        find_class_masks(pattern, folder / "images", None, background=True).write(folder / "out")
    Image.fromarray(np.array([[0, 7, 9, 0]] * 2, np.uint8)).save(path)
    with pytest.raises(InputError, match=r"a_b\.png: the mask of one class has the values 0, 7, 9; expected 0"):
        find_class_masks(pattern, folder / "images", None, background=True).write(folder / "out")
