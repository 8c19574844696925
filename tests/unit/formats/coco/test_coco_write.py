from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from tlvision.formats.coco import read_coco, result_rows, write_dataset, write_json, write_predictions, write_used
from tlvision.formats.coco.rle import mask_to_rle
from tlvision.types import ClassMap, InputError, Prediction, RunError, Sample, Target, empty_target

# pycocotools 2.0.11 is not up to numpy 2.
pycocotools_warns = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def sample(path: Path, image_id: int, labels: list[int]) -> Sample:
    Image.new("RGB", (30, 20)).save(path)
    count = len(labels)
    rng = np.random.default_rng(image_id)
    first = rng.uniform(0, 10, (count, 2))
    boxes = np.concatenate([first, first + rng.uniform(1, 9, (count, 2))], axis=1).astype(np.float32)
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 3:9] = 1
    segments = [None, (np.array([[1.5, 1], [9, 1], [9, 7.25]], np.float32),), mask_to_rle(mask)]
    return Sample(
        image_id=image_id,
        path=path,
        width=30,
        height=20,
        target=Target(
            boxes=boxes, labels=np.array(labels, np.int64), crowd=np.array([n == 2 for n in range(count)], bool)
        ),
        segments=tuple(segments[n % 3] for n in range(count)),
    )


IDS = [(0,), (1, 2, 3), (3, 7, 90)]


@pytest.mark.parametrize("ids", IDS)
def test_a_dataset_survives_the_round_trip(tmp_path: Path, ids: tuple[int, ...]) -> None:
    classes = ClassMap(tuple(f"class {n}" for n in range(len(ids))), ids)
    labels = [n % len(ids) for n in range(4)]
    samples = [sample(tmp_path / "a.png", 11, labels), sample(tmp_path / "b.png", 4, [])]
    write_dataset(tmp_path / "out" / "d.json", samples, classes, "a test")
    data = read_coco(tmp_path / "out" / "d.json", tmp_path)
    assert data.classes == classes
    assert data.category_ids == dict(enumerate(ids))
    assert len(data.skipped) == 1
    assert "crowd regions" in data.skipped[0]
    for before, after in zip(samples, data.samples, strict=True):
        assert (after.image_id, after.path, after.width, after.height) == (before.image_id, before.path, 30, 20)
        assert np.abs(after.target.boxes - before.target.boxes).max(initial=0) < 2e-6
        assert (after.target.labels == before.target.labels).all()
        assert (after.target.crowd == before.target.crowd).all()
        for one, other in zip(before.segments, after.segments, strict=True):
            assert type(one) is type(other)
            assert one == other if not isinstance(one, tuple) else (one[0] == other[0]).all()
    rows = json.loads((tmp_path / "out" / "d.json").read_text())["annotations"]
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["area"] == pytest.approx(rows[0]["bbox"][2] * rows[0]["bbox"][3])
    assert rows[2]["area"] == 18
    assert [row["iscrowd"] for row in rows] == [0, 0, 1, 0]


@pytest.mark.parametrize("ids", IDS)
def test_category_ids_reach_predictions_json_and_come_back(tmp_path: Path, ids: tuple[int, ...]) -> None:
    category_ids = dict(enumerate(ids))
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 300, (50, 2)).astype(np.float32)
    boxes = np.concatenate([boxes, boxes + rng.uniform(1, 300, (50, 2)).astype(np.float32)], axis=1)
    labels = rng.integers(len(ids), size=50)
    prediction = Prediction(boxes=boxes, scores=rng.random(50).astype(np.float32), labels=labels)
    nothing = Prediction(boxes=boxes[:0], scores=prediction.scores[:0], labels=labels[:0])
    written = write_predictions(tmp_path / "p.json", [(42, prediction), (43, nothing)], category_ids)
    assert (written.detections, written.left_out) == (50, {})
    rows = json.loads((tmp_path / "p.json").read_text())
    assert {row["image_id"] for row in rows} == {42}
    back = {category: index for index, category in category_ids.items()}
    assert [back[row["category_id"]] for row in rows] == labels.tolist()
    assert (np.array([row["score"] for row in rows], np.float32) == prediction.scores).all()
    xywh = np.array([row["bbox"] for row in rows])
    assert (xywh[:, :2].astype(np.float32) == boxes[:, :2]).all()
    assert np.abs(xywh[:, 2:] + xywh[:, :2] - boxes[:, 2:]).max() < 6e-5
    assert len(json.dumps(rows[0]["score"])) <= 12  # no digits that float32 does not have


@pycocotools_warns
def test_masks_are_written_as_pycocotools_reads_them(tmp_path: Path) -> None:
    mask = (np.random.default_rng(0).random((2, 13, 17)) < 0.5).astype(np.uint8)
    prediction = Prediction(
        boxes=np.array([[0, 0, 5, 5]] * 2, np.float32),
        scores=np.array([0.5, 0.25], np.float32),
        labels=np.array([0, 0]),
        masks=mask,
    )
    write_predictions(tmp_path / "p.json", [(1, prediction)], {0: 1})
    rows = json.loads((tmp_path / "p.json").read_text())
    assert all((reference.decode(row["segmentation"]) == mask[n]).all() for n, row in enumerate(rows))
    assert len(rows) == 2


@pycocotools_warns
@pytest.mark.parametrize("order", ["C", "F"])
def test_run_lengths_are_those_of_pycocotools_byte_for_byte(order: Any) -> None:
    rng = np.random.default_rng(0)
    shares = (0.0, 0.1, 0.5, 0.9, 1.0)
    for number in range(500):
        height, width = rng.integers(1, 12, 2).tolist()
        mask = np.zeros((height, width), np.uint8, order=order)
        y, x = int(rng.integers(height)), int(rng.integers(width))
        part = mask[y:, x:] if number % 3 else mask
        part[:] = rng.random(part.shape) < shares[number % 5]
        expected = reference.encode(np.asfortranarray(mask))
        assert mask_to_rle(mask) == {"size": [height, width], "counts": expected["counts"]}


def test_rows_of_one_image_hold_no_mask_of_full_size() -> None:
    masks = np.zeros((2, 480, 640), np.uint8)
    masks[0, 100:200, 50:90] = 1
    prediction = Prediction(
        boxes=np.array([[50, 100, 90, 200]] * 2, np.float32),
        scores=np.array([0.5, 0.25], np.float32),
        labels=np.array([1, 0]),
        masks=masks,
    )
    rows, left_out = result_rows(7, prediction, {1: 90})
    assert left_out == {0: 1}
    (row,) = rows
    assert (row["image_id"], row["category_id"], row["bbox"], row["score"]) == (7, 90, [50.0, 100.0, 40.0, 100.0], 0.5)
    assert row["segmentation"]["size"] == [480, 640]
    assert len(row["segmentation"]["counts"]) < 300


def test_detections_of_a_class_that_the_json_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    prediction = Prediction(
        boxes=np.array([[0, 0, 5, 5]] * 3, np.float32),
        scores=np.array([0.5, 0.25, 0.1], np.float32),
        labels=np.array([0, 1, 1]),
    )
    written = write_predictions(tmp_path / "p.json", [(1, prediction)], {0: 90})
    assert (written.detections, written.left_out) == (1, {1: 2})
    assert [row["category_id"] for row in json.loads((tmp_path / "p.json").read_text())] == [90]


def test_a_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.json"
    write_json(path, [1])

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match=r"p\.json' cannot be written \(No space left on device\)"):
        write_json(path, [2])
    assert path.read_text() == "[1]"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.json"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, [float("nan")])


def test_doubled_names_and_ids_are_refused(tmp_path: Path) -> None:
    classes = ClassMap.from_names(["a"])
    (tmp_path / "sub").mkdir()
    same_name = [sample(tmp_path / "a.png", 1, []), sample(tmp_path / "sub" / "a.png", 2, [])]
    with pytest.raises(InputError, match=r"file name a\.png is used for more than one image"):
        write_dataset(tmp_path / "d.json", same_name, classes, "")
    write_dataset(tmp_path / "d.json", same_name, classes, "", images_dir=tmp_path)
    data = read_coco(tmp_path / "d.json", tmp_path, require_objects=False)
    assert [s.path for s in data.samples] == [s.path for s in same_name]
    with pytest.raises(InputError, match="image id 1 is used for more than one image"):
        write_dataset(tmp_path / "d.json", [same_name[0], same_name[0]], classes, "")
    with pytest.raises(InputError, match="is not in the image folder"):
        write_dataset(tmp_path / "d.json", same_name, classes, "", images_dir=tmp_path / "sub")
    with pytest.raises(InputError, match="class index 1 is not one of the 1 classes"):
        write_dataset(tmp_path / "d.json", [sample(tmp_path / "a.png", 1, [1])], classes, "")


def test_what_is_used_of_a_json_keeps_ids_and_images(tmp_path: Path) -> None:
    classes = ClassMap(("x", "y", "z"), (3, 7, 90))
    samples = [sample(tmp_path / "a.png", 11, [0, 1, 2, 1]), sample(tmp_path / "b.png", 4, [0])]
    write_dataset(tmp_path / "d.json", samples, classes, "")
    for each in samples:
        Image.new("RGB", (each.width, each.height)).save(each.path)
    content = json.loads((tmp_path / "d.json").read_text())
    unusable = content["annotations"][1] | {"id": 77, "bbox": [1, 1, 0, 0]}
    (tmp_path / "d.json").write_text(json.dumps(content | {"annotations": [*content["annotations"], unusable]}))
    write_used(read_coco(tmp_path / "d.json", tmp_path, class_names=["y"]), tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert [row["id"] for row in content["categories"]] == [7]
    assert [row["id"] for row in content["annotations"]] == [2, 4]
    assert [row["id"] for row in content["images"]] == [11, 4]


def test_an_empty_target_makes_no_rows(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    bare = Sample(image_id=1, path=tmp_path / "a.png", width=4, height=4, target=empty_target(), segments=())
    write_dataset(tmp_path / "d.json", [bare], ClassMap.from_names(["a"]), "")
    assert json.loads((tmp_path / "d.json").read_text())["annotations"] == []
