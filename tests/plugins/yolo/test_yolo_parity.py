"""The conversion to upstream's layout and back, and our predictions against upstream's validator on real images."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tlvision.formats.coco.read import read_coco
from tlvision.plugin.weights.files import read_tensors
from tlvision_yolo.parity import write_dataset, write_results


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


def test_the_dataset_in_upstreams_layout(tmp_path: Path, dataset: Any) -> None:
    train = read_coco(dataset("train.json", [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]), tmp_path)
    swapped = dataset("val.json", [{"id": 3, "name": "dog"}, {"id": 90, "name": "cat"}])
    val = read_coco(swapped, tmp_path, train.classes)
    path = write_dataset(train, val, tmp_path / "out" / "data")
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


def test_upstreams_results_in_the_ids_of_the_json(tmp_path: Path) -> None:
    source = tmp_path / "upstream.json"
    row = {"image_id": 7, "file_name": "7.png", "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    source.write_text(json.dumps([row | {"category_id": 1}, row | {"category_id": 2}]), encoding="utf-8")
    found = json.loads(write_results(source, {1: 90}, tmp_path / "ours.json").read_text(encoding="utf-8"))
    assert found == [{"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]
    nothing = write_results(tmp_path / "absent.json", {1: 90}, tmp_path / "nothing.json")
    assert json.loads(nothing.read_text(encoding="utf-8")) == []


def average_precision(annotations: Path, predictions: Path) -> tuple[float, float]:
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def letterbox(image: np.ndarray[Any, Any], size: int) -> tuple[torch.Tensor, float, float, float]:
    """Fit into size x size, as upstream's rect=False; return (3, H, W) in 0..1, the scale, the offsets x and y."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new_height, new_width = math.ceil(height * scale), math.ceil(width * scale)
    if (new_height, new_width) != (height, width):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = image
    tensor = torch.from_numpy(canvas[..., ::-1].copy()).permute(2, 0, 1).float() / 255
    return tensor, scale, left, top


@pytest.mark.shared
@pytest.mark.slow
def test_predictions_on_real_images_are_as_good_as_upstreams(build: Any, shared: Path, tmp_path: Path) -> None:
    """Upstream's validator in a process of its own, ours image by image; 128 images at 640."""
    weights = shared / "weights" / "yolov8n-coco-from-int8.pt"
    annotations, images = shared / "data" / "coco128" / "val.json", shared / "data" / "coco128" / "images"
    data = read_coco(annotations, images)
    assert data.classes.names == read_tensors(weights).class_names
    names = data.classes.names[::-1]  # so that every row of the head has to find its place by name
    adapter, _ = build("yolov8n", names, weights)
    adapter.module.eval()
    ids = dict(zip(data.classes.names, data.classes.source_ids, strict=True))
    rows = []
    for sample in data.samples:
        image, scale, left, top = letterbox(cv2.imread(str(sample.path)), 640)
        (found,) = adapter.predict(image[None])
        boxes = (found.boxes.numpy() - [left, top, left, top]) / scale
        boxes = np.clip(boxes, 0, [sample.width, sample.height] * 2)
        for (x0, y0, x1, y1), score, label in zip(boxes, found.scores.tolist(), found.labels.tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            rows.append({"image_id": sample.image_id, "category_id": ids[names[label]], "bbox": box, "score": score})
    ours = tmp_path / "ours.json"
    ours.write_text(json.dumps(rows), encoding="utf-8")

    description = write_dataset(data, data, tmp_path / "data")
    code = (
        "import sys\nfrom ultralytics import YOLO\n"
        "YOLO(sys.argv[1]).val(data=sys.argv[2], imgsz=640, batch=16, device='cpu', project=sys.argv[3], name='val', "
        "plots=False, save_json=True, verbose=False, rect=False)"
    )
    subprocess.run([sys.executable, "-c", code, weights, description, tmp_path], check=True, capture_output=True)
    theirs = write_results(tmp_path / "val" / "predictions.json", data.category_ids, tmp_path / "theirs.json")

    upstream, found = average_precision(annotations, theirs), average_precision(annotations, ours)
    assert upstream[0] > 0.4
    assert found == pytest.approx(upstream, abs=0.002)


@pytest.mark.shared
@pytest.mark.slow
def test_upstreams_trainer_from_the_command_line(shared: Path, tmp_path: Path) -> None:
    content = json.loads((shared / "data" / "bccd" / "val.json").read_text(encoding="utf-8"))
    content["images"] = content["images"][:16]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
    small = tmp_path / "small.json"
    small.write_text(json.dumps(content), encoding="utf-8")
    images = str(shared / "data" / "bccd" / "images")
    weights = str(shared / "weights" / "yolov8n-coco-from-int8.pt")
    command = ["--train-json", small, "--train-images", images, "--val-json", small, "--val-images", images]
    command += ["--weights", weights, "--arch", "yolov8n", "--epochs", "1", "--image-size", "160", "--batch", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "tlvision_yolo.parity", *map(str, command), "--out", tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert 0 < result["train_seconds"] < result["total_seconds"]
    rows = json.loads(Path(result["predictions"]).read_text(encoding="utf-8"))
    assert rows
    assert {row["image_id"] for row in rows} <= kept
    assert {row["category_id"] for row in rows} <= {1, 2, 3}
