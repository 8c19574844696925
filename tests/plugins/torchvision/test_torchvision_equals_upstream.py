"""Faster R-CNN's boxes from a file, ours against torchvision's own model; docs/equal-predictions.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

import tlvision
from tlvision.plugin import BuildSpec
from tlvision_torchvision.architectures import find_architecture
from tlvision_torchvision.build import build_upstream

ARCH, SIZE = "fasterrcnn_mobilenet_v2_fpn_light", 320
# A JPEG that is decoded at half its size has other pixels than one that is shrunk afterwards.
DECODED_SMALLER = "huge.jpg"

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture
def model(few_cells: Any, brief_run: Any, shared: Path) -> Any:
    """A run of twelve steps: its scores are spread from 0.001 to about 0.7."""
    weights = str(shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth")
    description = {"plugin": "torchvision", "arch": ARCH, "weights": weights}
    return tlvision.load(brief_run(description, few_cells, epochs=2, optimizer="sgd", lr=1e-2))


def upstream_of(model: Any) -> Any:
    """Return torchvision's own detector with the weights and the settings of ours."""
    weights = str(model.folder / "checkpoints" / "best" / "model.safetensors")
    detector = build_upstream(find_architecture(ARCH), BuildSpec(arch=ARCH, weights=weights, classes=model.classes))
    detector.transform.min_size, detector.transform.max_size = (SIZE,), SIZE
    detector.roi_heads.score_thresh, detector.roi_heads.detections_per_img = 0.001, 300
    return detector.eval()


def resize_as_ours(detector: Any, resize: Any) -> None:
    """Give the detector the size (rounded, where it cuts off) and the pixels that `resize` makes."""
    transform = detector.transform
    mean, std = (torch.tensor(each)[:, None, None] for each in (transform.image_mean, transform.image_std))

    def resized(image: torch.Tensor, target: Any = None) -> Any:
        gain = SIZE / max(image.shape[-2:])
        pixels = ((image * std + mean) * 255).round().byte().permute(1, 2, 0).numpy()
        result = resize(pixels, (round(image.shape[2] * gain), round(image.shape[1] * gain)))
        return (torch.from_numpy(result).permute(2, 0, 1).float() / 255 - mean) / std, target

    transform.resize = resized


def see_padding_as_image(detector: Any) -> None:
    """Let the detector take its whole input for the image: boxes may lie in the padding until they are mapped back."""
    transform = detector.transform
    forward, postprocess = transform.forward, transform.postprocess
    sizes: list[Any] = []

    def padded(images: Any, targets: Any = None) -> Any:
        found, targets = forward(images, targets)
        sizes[:] = found.image_sizes
        return ImageList(found.tensors, [tuple(found.tensors.shape[-2:])] * len(sizes)), targets

    transform.forward = padded
    transform.postprocess = lambda found, _, original: postprocess(found, list(sizes), original)


def find(detector: Any, file: Path) -> tuple[Any, Any, Any]:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)  # torchvision's own decoder is going out of use
    assert image is not None
    height, width = image.shape[:2]
    with torch.no_grad():
        (found,) = detector([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
    boxes = np.clip(found["boxes"].numpy(), 0, [width, height, width, height])
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[kept], found["scores"].numpy()[kept], found["labels"].numpy()[kept] - 1


def test_boxes_are_upstreams(model: Any, cells: list[Path], comparison: Any, same_resize: Any) -> None:
    """Every object from a score of 0.02 on, in both directions, once size, pixels and the use of padding are equal."""
    detector = upstream_of(model)
    resize_as_ours(detector, same_resize)
    see_padding_as_image(detector)
    result = comparison()
    for file, found in zip(cells, model.predict(cells, min_score=0), strict=True):
        if file.name != DECODED_SMALLER:
            ours = found.boxes, found.scores, found.labels
            result.add(file.name, ours, find(detector, file), floor=0.02, pixels=0.1, score=1e-3)
    print(result)
    assert result.compared > 1000
    # Rounding turns a few decisions of the two suppressions, of boxes that overlap by as much as the threshold.
    assert len(result.missing) <= 0.005 * result.compared, result.missing


def test_as_users_have_both(model: Any, cells: list[Path], comparison: Any) -> None:
    """Upstream cuts proposals at the image before it suppresses them, we at the padded input; the sizes may differ."""
    detector, result = upstream_of(model), comparison()
    for file, found in zip(cells, model.predict(cells, min_score=0), strict=True):
        ours = found.boxes, found.scores, found.labels
        result.add(file.name, ours, find(detector, file), floor=0.02, pixels=0.5, score=0.01)
    print(result)
    assert len(result.missing) < 0.5 * result.compared
