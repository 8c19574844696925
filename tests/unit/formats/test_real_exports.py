"""Layouts that label tools have written, rebuilt from what threads of their issue trackers show.

They are read, or one sentence says what to change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tlvision.formats.coco import read_coco
from tlvision.formats.exchange import Labels, read_any
from tlvision.types import InputError

BOX = (10.0, 6.0, 30.0, 26.0)
LINE = "0 0.3125 0.333333 0.3125 0.416667"
"""The same box in an image of 64 x 48."""


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(path)


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def cvat_yolo_1_1(folder: Path) -> Path:
    """cvat-ai/cvat#8046: names of a folder `data` that is not in the archive, images beside the labels."""
    text(folder / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    text(folder / "obj.names", "car\n")
    text(folder / "train.txt", "data/obj_train_data/frame_000000.PNG\n")
    image(folder / "obj_train_data" / "frame_000000.PNG")
    text(folder / "obj_train_data" / "frame_000000.txt", LINE)
    return folder


def cvat_ultralytics(folder: Path) -> Path:
    """cvat-ai/cvat#9433: `train` is a list of images in a text file."""
    text(folder / "data.yaml", "path:  ./ # dataset root dir\ntrain: train.txt\nnames:\n  0: car\n")
    text(folder / "train.txt", "images/train/image1.jpg\n")
    image(folder / "images" / "train" / "image1.jpg")
    text(folder / "labels" / "train" / "image1.txt", LINE)
    image(folder / "images" / "train" / "not_listed.jpg")
    text(folder / "labels" / "train" / "not_listed.txt", LINE)
    return folder


def roboflow(folder: Path, start: str) -> Path:
    text(folder / "data.yaml", f"train: {start}train/images\nval: {start}valid/images\nnc: 1\nnames: ['car']\n")
    for part in ("train", "valid"):
        image(folder / part / "images" / "a_jpg.rf.0123.jpg")
        text(folder / part / "labels" / "a_jpg.rf.0123.txt", LINE)
    return folder


def roboflow_export(folder: Path) -> Path:
    """roboflow/roboflow-python#125: one `..` too many."""
    return roboflow(folder, "../")


def roboflow_api(folder: Path) -> Path:
    """roboflow/notebooks#306: the paths begin with the name of the folder itself, which may have another name now."""
    return roboflow(folder, "simulated-data/")


def vott_yolo(folder: Path) -> Path:
    """microsoft/VoTT#106: a blank line at the end of every file."""
    text(folder / "obj.names", "car\n\n")
    image(folder / "obj" / "a.jpg")
    text(folder / "obj" / "a.txt", LINE + "\n\n")
    return folder


def voc(folder: Path, name: str, corners: tuple[str, ...]) -> Path:
    image(folder / "JPEGImages" / "a.jpg")
    box = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    text(
        folder / "Annotations" / "a.xml",
        f"<annotation><filename>{name}</filename><size><width>64</width><height>48</height><depth>3</depth></size>"
        f"<object><name>car</name><bndbox>{box}</bndbox></object></annotation>",
    )
    return folder


def voc_floats(folder: Path) -> Path:
    """Tony607/voc2coco#5, HumanSignal/labelImg#422: VOC 2012 itself has floats."""
    return voc(folder, "a.jpg", ("11.0", "7.0", "30.0", "26.0"))


def voc_without_suffix(folder: Path) -> Path:
    """Not from a thread: a name without its suffix, which `ImageIndex.find` allows for VOC."""
    return voc(folder, "a", ("11", "7", "30", "26"))


def labelme_turned_rectangle(folder: Path) -> Path:
    """PaddlePaddle/PaddleDetection#1296: the first corner of a rectangle need not be the upper left one."""
    image(folder / "a.jpg")
    shape = {"label": "car", "points": [[30, 6], [10, 26]], "shape_type": "rectangle", "group_id": None, "flags": {}}
    content = {"version": "5.5.0", "shapes": [shape], "imagePath": "..\\photos\\a.jpg", "imageData": None}
    text(folder / "a.json", json.dumps(content | {"imageHeight": 48, "imageWidth": 64}))
    return folder


READ: list[Callable[[Path], Path]] = [
    cvat_yolo_1_1,
    cvat_ultralytics,
    roboflow_export,
    roboflow_api,
    vott_yolo,
    voc_floats,
    voc_without_suffix,
    labelme_turned_rectangle,
]


@pytest.mark.parametrize("build", READ, ids=lambda build: build.__name__)
def test_the_layout_is_read(build: Callable[[Path], Path], tmp_path: Path) -> None:
    parts = read_any(build(tmp_path / "set"))
    assert parts
    for labels in parts.values():
        assert isinstance(labels, Labels)
        assert labels.classes == ("car",)
        assert len(labels.pictures) == 1
        (shape,) = labels.pictures[0].shapes
        assert shape.box == pytest.approx(BOX, abs=0.01)


def coco(name: str, **row: Any) -> dict[str, Any]:
    annotation = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [10, 6, 20, 20], "area": 400, "iscrowd": 0}
    return {
        "images": [{"id": 1, "file_name": name, "width": 64, "height": 48}],
        "annotations": [annotation | row],
        "categories": [{"id": 0, "name": "car"}],
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # label-studio#7294: Label Studio 1.16 on Windows
        (coco("..\\..\\label-studio\\label-studio\\media\\upload\\4\\cb.png"), r"leaves the image folder.*cb\.png"),
        # label-studio-converter#139
        (coco("images\\1/cb.png"), r"do not exist.*cb\.png"),
        # label-studio#4903
        (coco("/data/local-files/?d=photos/cb.png"), r"cb\.png' exists: remove '/data/local-files/\?d=photos/'"),
        # X-AnyLabeling#700
        (coco("..\\label\\cb.png"), r"leaves the image folder.*cb\.png"),
        # pylabel#46
        (coco("cb.png", category_id="0"), r"'0' \(a text\)"),
    ],
    ids=["label-studio 1.16", "project number", "local files", "X-AnyLabeling", "pylabel"],
)
def test_names_and_ids_of_another_place_are_one_sentence(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    image(tmp_path / "images" / "cb.png")
    path = text(tmp_path / "result.json", json.dumps(content))
    with pytest.raises(InputError, match=words) as caught:
        read_coco(path, tmp_path / "images")
    assert len(str(caught.value)) < 400
