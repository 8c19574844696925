"""The conversion to upstream's layout and back, and a run of upstream's trainer from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from subsets import first_images
from tlvision.formats.coco.read import read_coco


@pytest.fixture
def upstream(parity: Callable[[str], Any]) -> Any:
    return parity("yolo")


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], Path]:
    """Return a function that writes two images (ids 7 and 40) with category ids 3 and 90, and their json."""
    for name in ("a.PNG", "b.png"):
        cv2.imwrite(str(tmp_path / f"{name.lower()}"), np.zeros((40, 80, 3), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "a.PNG")

    def write(name: str, categories: list[dict[str, Any]]) -> Path:
        rows = [(1, 7, 90, [8, 4, 16, 20], 0), (2, 7, 3, [0, 0, 80, 40], 0), (3, 7, 3, [1, 1, 5, 5], 1)]
        content = {
            "images": [
                {"id": 7, "file_name": "a.PNG", "width": 80, "height": 40},
                {"id": 40, "file_name": "b.png", "width": 80, "height": 40},
            ],
            "categories": categories,
            "annotations": [
                {"id": i, "image_id": image, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
                for i, image, c, box, crowd in rows
            ],
        }
        path = tmp_path / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def test_the_dataset_in_upstreams_layout(upstream: Any, tmp_path: Path, dataset: Any) -> None:
    train = read_coco(dataset("train.json", [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]), tmp_path)
    swapped = dataset("val.json", [{"id": 3, "name": "dog"}, {"id": 90, "name": "cat"}])
    val = read_coco(swapped, tmp_path, train.classes)
    path = upstream.write_dataset(train, val, tmp_path / "out" / "data")
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert description["names"] == {0: "cat", 1: "dog"}
    folder = Path(description["path"])
    for split in ("train", "val"):
        assert sorted(p.name for p in (folder / description[split]).iterdir()) == ["40.png", "7.png"]
        assert not any(p.is_symlink() for p in (folder / description[split]).iterdir())
    labels = {
        split: [[float(word) for word in line.split()] for line in text.splitlines()]
        for split in ("train", "val")
        for text in [(folder / "labels" / split / "7.txt").read_text(encoding="ascii")]
    }
    assert labels["train"] == [[1, 0.2, 0.35, 0.2, 0.5], [0, 0.5, 0.5, 1, 1]], "the crowd region is left out"
    assert [row[0] for row in labels["val"]] == [0, 1], "classes go by name"
    assert (folder / "labels" / "val" / "40.txt").read_text(encoding="ascii") == ""


def test_upstreams_results_in_the_ids_of_the_json(upstream: Any, tmp_path: Path) -> None:
    source = tmp_path / "upstream.json"
    row = {"image_id": 7, "file_name": "7.png", "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    source.write_text(json.dumps([row | {"category_id": 1}, row | {"category_id": 2}]), encoding="utf-8")
    found = json.loads(upstream.write_results(source, {1: 90}, tmp_path / "ours.json").read_text(encoding="utf-8"))
    assert found == [{"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]
    nothing = upstream.write_results(tmp_path / "absent.json", {1: 90}, tmp_path / "nothing.json")
    assert json.loads(nothing.read_text(encoding="utf-8")) == []


@pytest.mark.shared
@pytest.mark.slow
def test_upstreams_trainer_from_the_command_line(
    shared: Path, tmp_path: Path, upstream_side: Callable[..., str]
) -> None:
    small = first_images(shared / "data" / "bccd" / "val.json", 16, tmp_path / "small.json")
    images = str(shared / "data" / "bccd" / "images")
    weights = str(shared / "weights" / "yolov8n-coco-from-int8.pt")
    command = ["--train-json", small, "--train-images", images, "--val-json", small, "--val-images", images]
    command += ["--weights", weights, "--arch", "yolov8n", "--epochs", "1", "--image-size", "160", "--batch", "8"]
    result = json.loads(upstream_side("yolo", *command, "--out", tmp_path / "out"))
    assert 0 < result["train_seconds"] < result["total_seconds"]
    rows = json.loads(Path(result["predictions"]).read_text(encoding="utf-8"))
    assert rows
    known = {image["id"] for image in json.loads(small.read_text(encoding="utf-8"))["images"]}
    assert {row["image_id"] for row in rows} <= known
    assert {row["category_id"] for row in rows} <= {1, 2, 3}
