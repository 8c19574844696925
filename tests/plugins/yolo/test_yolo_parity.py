"""Our predictions against upstream's validator on real images."""

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

from tlvision.formats.coco.read import read_coco
from tlvision.plugin.weights.files import read_tensors


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
def test_predictions_on_real_images_are_as_good_as_upstreams(
    build: Any, tools: Callable[[str], Any], shared: Path, tmp_path: Path
) -> None:
    """Upstream's validator in a process of its own, ours image by image; 128 images at 640."""
    upstream = tools("benchmarks.parity.yolo")
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

    description = upstream.write_dataset(data, data, tmp_path / "data")
    code = (
        "import sys\nfrom ultralytics import YOLO\n"
        "YOLO(sys.argv[1]).val(data=sys.argv[2], imgsz=640, batch=16, device='cpu', project=sys.argv[3], name='val', "
        "plots=False, save_json=True, verbose=False, rect=False)"
    )
    subprocess.run([sys.executable, "-c", code, weights, description, tmp_path], check=True)
    theirs = upstream.write_results(tmp_path / "val" / "predictions.json", data.category_ids, tmp_path / "theirs.json")

    average_precision = tools("benchmarks.parity.tasks").pycocotools_ap
    expected, found = average_precision(annotations, theirs), average_precision(annotations, ours)
    assert expected[0] > 0.4
    assert found == pytest.approx(expected, abs=0.002)
