"""Predictions as labels to correct: read back by supervision, and number by number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from fast import first_fast
from tlvision.cli.main import main
from tlvision.formats.exchange import read_any
from tlvision.formats.preannotations import FORMATS, PreAnnotations, write_labels
from tlvision.types import ClassMap, InputError, Prediction

MASK = np.zeros((100, 200), np.uint8)
MASK[10:30, 20:60] = 1
MASK[70:90, 150:190] = 1


@pytest.fixture(params=["boxes", "masks"])
def found(request: pytest.FixtureRequest, tmp_path: Path) -> PreAnnotations:
    """One image with an object and one without; the mask has two parts."""
    labels = PreAnnotations(ClassMap(("cat", "<dog & co>"), (3, 7)), "run")
    prediction = Prediction(
        boxes=np.array([[20, 10, 190, 90]], np.float32),
        scores=np.array([0.75], np.float32),
        labels=np.array([1]),
        masks=MASK[None] if request.param == "masks" else None,
    )
    labels.add("a/ö.jpg", tmp_path / "1.jpg", 200, 100, prediction)
    labels.add("b.jpg", tmp_path / "2.jpg", 200, 100, Prediction.empty())
    return labels


def test_supervision_reads_the_coco_dataset(found: PreAnnotations, tmp_path: Path) -> None:
    import supervision as sv

    (tmp_path / "labels.json").write_text(found.text("coco"), encoding="utf-8")
    (tmp_path / "a").mkdir()
    for name in ("a/ö.jpg", "b.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((100, 200, 3), np.uint8))
    with_masks = bool(found.images[0].objects[0].outlines)
    data = sv.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "labels.json"), force_masks=with_masks)
    assert list(data.classes) == ["cat", "<dog & co>"]
    detections = {Path(path).name: found for path, _, found in data}
    assert len(detections["b.jpg"]) == 0
    assert detections["ö.jpg"].xyxy.tolist() == [[20, 10, 190, 90]]
    assert detections["ö.jpg"].class_id.tolist() == [1]
    row = json.loads(found.text("coco"))["annotations"][0]
    assert (row["category_id"], row["score"]) == (7, 0.75)


def test_cvat_gets_boxes_or_the_parts_of_a_mask_in_a_group(found: PreAnnotations) -> None:
    root = ElementTree.fromstring(found.text("cvat"))
    images = root.findall("image")
    assert [(image.get("name"), len(image)) for image in images][1] == ("b.jpg", 0)
    shapes = list(images[0])
    assert {shape.get("label") for shape in shapes} == {"<dog & co>"}
    if shapes[0].tag == "box":
        assert [float(shapes[0].get(key) or -1) for key in ("xtl", "ytl", "xbr", "ybr")] == [20, 10, 190, 90]
        return
    drawn = np.zeros_like(MASK)
    for shape in shapes:
        points = [[float(value) for value in point.split(",")] for point in (shape.get("points") or "").split(";")]
        cv2.fillPoly(drawn, [np.array(points, np.int32)], 1)
    assert np.array_equal(drawn, MASK)
    assert len({shape.get("group_id") for shape in shapes}) == 1
    assert len(shapes) == 2


def test_label_studio_gets_percent(found: PreAnnotations) -> None:
    tasks = json.loads(found.text("label_studio"))
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d={name}" for name in ("a/ö.jpg", "b.jpg")
    ]
    rows = tasks[0]["predictions"][0]["result"]
    value = rows[0]["value"]
    if rows[0]["type"] == "rectanglelabels":
        assert [value[key] for key in ("x", "y", "width", "height")] == [10, 10, 85, 80]
        assert value["rectanglelabels"] == ["<dog & co>"]
    else:
        assert len(rows) == 2
        assert {tuple(row["value"]["points"][0]) for row in rows} == {(10.0, 10.0), (75.0, 70.0)}
    assert tasks[1]["predictions"][0]["result"] == []


def write_images(found: PreAnnotations) -> None:
    for image in found.images:
        cv2.imwrite(str(image.path), np.zeros((image.height, image.width, 3), np.uint8))


def test_yolo_txt_is_read_back_as_labels(found: PreAnnotations, tmp_path: Path) -> None:
    write_images(found)
    path, notes = write_labels(found, "yolo", tmp_path / "out")
    (part,) = read_any(path).values()
    assert part.classes == found.classes.names
    assert [(each.file, each.width, each.height) for each in part.pictures] == [
        ("a/ö.jpg", 200, 100),
        ("b.jpg", 200, 100),
    ]
    (shape,), none = (each.shapes for each in part.pictures)
    assert (shape.label, none) == ("<dog & co>", ())
    columns = (path.parent / "labels" / "train" / "a" / "ö.txt").read_text().split()
    if not found.images[0].objects[0].outlines:
        assert shape.box == pytest.approx((20, 10, 190, 90))
        assert (len(columns), notes) == (5, [])  # no score: labelImg and trainers refuse it
        return
    drawn = np.zeros_like(MASK)
    cv2.fillPoly(drawn, [np.rint(shape.outlines[0]).astype(np.int32).reshape(-1, 2)], 1)
    assert np.array_equal(drawn, MASK * (np.arange(200) > 100)), "the two parts are equally large"
    assert notes == ["1 mask of several parts, of which the largest is written"]


def test_an_independent_reader_of_yolo_txt_finds_the_same(found: PreAnnotations, tmp_path: Path) -> None:
    import supervision as sv

    found.images[0] = replace(found.images[0], name="a.jpg")  # supervision reads no folders below
    write_images(found)
    folder = write_labels(found, "yolo", tmp_path / "out")[0].parent
    with_masks = bool(found.images[0].objects[0].outlines)
    data = sv.DetectionDataset.from_yolo(
        str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml"), force_masks=with_masks
    )
    assert list(data.classes) == list(found.classes.names)
    detections = {Path(path).name: each for path, _, each in data}
    assert len(detections["b.jpg"]) == 0
    assert detections["a.jpg"].class_id.tolist() == [1]
    assert np.abs(detections["a.jpg"].xyxy - ([150, 70, 189, 89] if with_masks else [20, 10, 190, 90])).max() <= 1


def test_an_empty_mask_is_written_as_its_box_and_images_of_one_stem_stay_apart(tmp_path: Path) -> None:
    labels = PreAnnotations(ClassMap(("cat",), (1,)), "run")
    boxes, scores = np.array([[20, 10, 60, 30], [100, 40, 120, 60]], np.float32), np.array([0.9, 0.5], np.float32)
    masks = np.stack([MASK * 0, MASK])
    prediction = Prediction(boxes=boxes, scores=scores, labels=np.array([0, 0]), masks=masks)
    for name in ("a.jpg", "a.png"):
        labels.add(name, tmp_path / name, 200, 100, prediction)
    write_images(labels)
    (part,) = read_any(write_labels(labels, "yolo", tmp_path / "out")[0]).values()
    assert [each.file for each in part.pictures] == ["a_jpg.jpg", "a_png.png"]
    assert [len(each.shapes) for each in part.pictures] == [2, 2]
    assert part.pictures[0].shapes[0].outlines[0] == pytest.approx((20, 10, 60, 10, 60, 30, 20, 30))


@pytest.mark.slow
def test_predict_writes_a_yolo_dataset_that_a_config_reads(small_run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--run", str(small_run), "--output", str(out), "--format", "yolo", "--min-score", "0"]
    assert main(["predict", str(tiny_dataset / "images"), *flags]) == 0
    rows = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    (part,) = read_any(out / "yolo").values()
    assert [each.file for each in part.pictures] == [f"{number:03d}.png" for number in range(1, 17)]
    boxes = [[x0, y0, x1 - x0, y1 - y0] for each in part.pictures for x0, y0, x1, y1 in (s.box for s in each.shapes)]
    assert np.abs(np.array(boxes) - [row["bbox"] for row in rows]).max() < 0.02
    assert [s.label for each in part.pictures for s in each.shapes] == [row["category"] for row in rows]


@pytest.mark.parametrize("name", first_fast(FORMATS))
def test_predict_writes_the_file(name: str, small_run: Path, tmp_path: Path, tiny_dataset: Path) -> None:
    out = tmp_path / "out"
    flags = ["--run", str(small_run), "--output", str(out), "--format", name, "--min-score", "0"]
    assert main(["predict", str(tiny_dataset / "images"), *flags]) == 0
    text = (out / FORMATS[name][0]).read_text(encoding="utf-8")
    count = len(json.loads((out / "predictions.json").read_text(encoding="utf-8")))
    assert count > 0
    assert text.count({"coco": '"iscrowd"', "cvat": "<box", "label_studio": '"type"'}[name]) == count


def test_a_label_map_has_no_objects() -> None:
    labels = PreAnnotations(ClassMap(("road",), (0,)), "run")
    with pytest.raises(InputError, match="label map has no objects"):
        labels.add("a.jpg", Path("a.jpg"), 4, 4, Prediction.empty(np.zeros((4, 4), np.int64)))
