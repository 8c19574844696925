"""YOLOX's boxes from a file, ours against mmdet's own inference; docs/equal-predictions.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tlvision.plugin import BuildSpec, PredictSpec, get_plugin
from tlvision.types import ClassMap
from tlvision_openmmlab.mmdet.config import read_config
from tlvision_openmmlab.mmdet.zoo import find_config

ARCH, SIZE = "yolox_nano_8xb8-300e_coco", 640
# A JPEG that is decoded at half its size has other pixels than one that is shrunk afterwards.
DECODED_SMALLER = "huge.jpg"

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def files(shared: Path, pictures: Any) -> list[Path]:
    by_size: dict[tuple[int, int], Path] = {}
    for path in sorted((shared / "data" / "coco128" / "images").glob("*.jpg")):
        with Image.open(path) as image:
            by_size.setdefault(image.size, path)
    found: list[Path] = pictures(list(by_size.values()))
    return found


def weights_of(shared: Path) -> str:
    return str(shared / "weights" / "yolox_nano-coco-mmdet-from-onnx.pth")


@pytest.fixture
def model(shared: Path, as_loaded: Any) -> Any:
    names = read_config(find_config(ARCH).path).classes
    assert names is not None
    classes = ClassMap.from_names(names)
    spec = BuildSpec(
        arch=ARCH,
        weights=weights_of(shared),
        classes=classes,
        image_size=SIZE,
        predict=PredictSpec(max_detections=1000),
    )
    return as_loaded(get_plugin("mmdet").build(spec), "mmdet", ARCH, classes, SIZE)


def upstream_of(weights: str) -> Any:
    """Return mmdet's own detector with the settings of ours: image size, score floor, padding to multiples of 32."""
    from mmdet.apis import init_detector
    from mmengine.config import Config

    config = Config.fromfile(str(find_config(ARCH).path))
    config.model.test_cfg.score_thr = 0.001
    for step in config.test_dataloader.dataset.pipeline:
        if step.type == "Resize":
            step["scale"] = (SIZE, SIZE)
        if step.type == "Pad":
            step.pop("pad_to_square")
            step["size_divisor"] = 32
    return init_detector(config, weights, device="cpu")


def test_boxes_are_upstreams(  # noqa: PLR0917
    model: Any, files: list[Path], shared: Path, comparison: Any, same_resize: Any, monkeypatch: Any
) -> None:
    """Every object from a score of 0.01 on, in both directions; upstream's boxes are cut at the image, as ours are."""
    from mmdet.apis import inference_detector

    ours, detector, result = model.predict(files), upstream_of(weights_of(shared)), comparison()
    monkeypatch.setattr(cv2, "resize", same_resize)
    for file, found in zip(files, ours, strict=True):
        if file.name == DECODED_SMALLER:
            continue
        sample = inference_detector(detector, str(file))
        height, width = sample.ori_shape
        theirs = sample.pred_instances
        boxes = np.clip(theirs.bboxes.numpy(), 0, [width, height, width, height])
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        rows = boxes[kept], theirs.scores.numpy()[kept], theirs.labels.numpy()[kept]
        result.add(file.name, (found.boxes, found.scores, found.labels), rows, floor=0.01, pixels=0.1, score=1e-3)
    print(result)
    assert not result.missing
    assert result.compared > 1000
