"""What the values of label maps mean: numbers or colours, renamed, merged or left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.formats.label_maps import read_class_file, read_label_map, write_label_map
from tlvision.tasks import LabelOptions, Source, get_task
from tlvision.types import ClassChanges, InputError

ROAD, CAR, BUS, VOID = (128, 64, 128), (0, 0, 142), (0, 60, 100), (0, 0, 0)
COLOURS = np.array([ROAD, CAR, BUS, VOID], np.uint8)
INDICES = np.array([[0, 1, 2, 3], [0, 0, 1, 2]], np.uint8)


def folder_of(tmp_path: Path, label_map: Image.Image) -> Source:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir(exist_ok=True)
    Image.new("RGB", label_map.size).save(tmp_path / "images" / "a.jpg")
    label_map.save(tmp_path / "masks" / "a.png")
    return Source(name="train", images=str(tmp_path / "images"), masks=str(tmp_path / "masks"))


def read(source: Source, **options: Any) -> tuple[Any, list[list[int]]]:
    data = get_task("semantic").read(source, LabelOptions(**options), None)
    return data, read_label_map(data.samples[0].label_map).tolist()  # type: ignore[arg-type]


def palette() -> Image.Image:
    image = Image.fromarray(INDICES)
    image.putpalette(COLOURS.ravel().tolist())
    return image


@pytest.mark.parametrize("picture", [Image.fromarray(COLOURS[INDICES]), palette()], ids=["RGB", "palette"])
def test_colours_are_values(tmp_path: Path, picture: Image.Image) -> None:
    source = folder_of(tmp_path, picture)
    names = {"road": ROAD, "car": CAR, "bus": BUS}
    data, labels = read(source, classes=names, ignore_value=VOID)
    assert labels == [[0, 1, 2, 255], [0, 0, 1, 2]]
    assert data.classes.names == ("road", "car", "bus")
    _, labels = read(source, classes=names | {"void": VOID})
    assert labels == INDICES.tolist()
    with pytest.raises(InputError, match=r"a\.png: .* 0 \(colour \[0, 0, 0\]\); .* and none is for what is not known"):
        read(source, classes=names)  # the value 255 would be the colour red


def test_a_drawn_ground_truth_has_class_indices(tmp_path: Path) -> None:
    source = folder_of(tmp_path, Image.fromarray(COLOURS[INDICES]))
    options = LabelOptions(classes={"road": ROAD, "car": CAR, "bus": BUS}, ignore_value=VOID)
    task = get_task("semantic")
    truth = task.ground_truth(task.read(source, options, None), options, tmp_path / "run", write=True)
    assert np.asarray(Image.open(truth / "a.png")).tolist() == [[0, 1, 2, 255], [0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("options", "names", "labels"),
    [
        ({"changes": ClassChanges(rename={"car": "auto"})}, ("road", "auto", "bus", "tree"), [0, 1, 2, 3]),
        ({"changes": ClassChanges(merge={"vehicle": ("bus", "car")})}, ("road", "vehicle", "tree"), [0, 1, 1, 2]),
        ({"changes": ClassChanges(drop=("road",))}, ("car", "bus", "tree"), [255, 0, 1, 2]),
        ({"only": ("tree", "road")}, ("tree", "road"), [1, 255, 255, 0]),
    ],
    ids=["rename", "merge", "drop", "only"],
)
def test_classes_are_changed(tmp_path: Path, options: Any, names: tuple[str, ...], labels: list[int]) -> None:
    source = folder_of(tmp_path, Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8)))
    data, found = read(source, classes=("road", "car", "bus", "tree"), **options)
    assert data.classes.names == names
    assert found == [labels]


@pytest.mark.parametrize(
    "text",
    [
        "# label:color_rgb:parts:actions\nroad:128,64,128::\nsmall car:0,0,142::\n",
        "name,r,g,b\nroad,128,64,128\nsmall car,0,0,142\n",
        "name, r, g, b\nroad, 128, 64, 128\nsmall car, 0, 0, 142",
        "road\t128,64,128\nsmall car\t0,0,142",
    ],
    ids=["CVAT", "CamVid", "spaces", "tabs"],
)
def test_colour_tables_of_label_tools(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text(text)
    assert read_class_file(path) == {"road": ROAD, "small car": CAR}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("road:128,64,300::", r"the colour of 'road' is \[128, 64, 300\]; each value is from 0 to 255"),
        ("road:1,2,3::\ncar:1,2,3::", "used for more than one class"),
        ("road:1,2,3::\nroad:1,2,4::", "name road is used for more than one class"),
    ],
    ids=["too large", "a colour twice", "a name twice"],
)
def test_a_wrong_colour_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_class_file(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": {"road": 0, "car": CAR}}, "some classes have values and others colours"),
        ({"changes": ClassChanges(drop=("road",))}, "as data.classes.names"),
        ({"classes": ("road", "car"), "only": ("rood",)}, "no class 'rood'. Did you mean 'road'"),
        ({"classes": ("road", "car"), "changes": ClassChanges(drop=("x",))}, "data.classes.names has no class 'x'"),
    ],
    ids=["mixed", "no names", "only", "drop"],
)
def test_what_does_not_fit_is_named(tmp_path: Path, options: Any, words: str) -> None:
    write_label_map(tmp_path / "m.png", INDICES)
    source = folder_of(tmp_path, Image.open(tmp_path / "m.png"))
    with pytest.raises(InputError, match=words):
        read(source, **options)
