"""Score floor, IoU of suppression and number of objects are settings of every detector, not constants of its plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from fast import first_fast
from tlvision.plugin import BuildSpec, PredictSpec, get_plugin
from tlvision.types import ClassMap, InputError, Prediction

DETECTORS = (
    ("toy", "tiny_detector"),
    ("toy", "toy-instance"),
    ("yolo", "yolov8n"),
    ("torchvision", "ssdlite320_mobilenet_v3_large"),
    ("torchvision", "fasterrcnn_mobilenet_v2_fpn_light"),
    ("mmdet", "retinanet_r18_fpn_1x_coco"),
    ("mmdet", "faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco"),
)
SIDE = 160
LOW = 0.2


def predict(plugin: str, arch: str, settings: PredictSpec) -> Sequence[Prediction]:
    """Predict with a fresh model, whose scores are spread by noise on its head."""
    torch.manual_seed(0)
    classes = ClassMap.from_names(("ant", "bee"))
    adapter, _ = get_plugin(plugin).build(
        BuildSpec(arch=arch, weights="none", classes=classes, image_size=SIDE, predict=settings)
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for group in adapter.groups:
            for part in (adapter.module.get_submodule(path) for path in group.modules if group.role == "head"):
                for parameter in part.parameters():
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    adapter.module.eval()
    return adapter.predict(torch.randn(2, 3, SIDE, SIDE, generator=generator))


def overlaps(found: Any) -> torch.Tensor:
    """Return the IoU of every two boxes of one class, without those of a box and itself."""
    same = found.labels[:, None] == found.labels[None]
    return (box_iou(found.boxes, found.boxes) * same).triu(1)


@pytest.mark.filterwarnings("default")  # upstream's code is old
@pytest.mark.parametrize(("plugin", "arch"), first_fast(DETECTORS, 4), ids=lambda value: value)
def test_settings_reach_the_model(plugin: str, arch: str) -> None:
    usual = predict(plugin, arch, PredictSpec())
    assert min(len(found) for found in usual) > 4
    assert max(float(overlaps(found).max()) for found in usual) > LOW, "there is something to suppress"

    scores = torch.cat([found.scores for found in usual])
    floor = float(scores.sort().values[len(scores) // 2])
    for found, before in zip(predict(plugin, arch, PredictSpec(score_floor=floor)), usual, strict=True):
        kept = before.scores > floor
        assert 0 < len(found) <= len(before)
        assert float(found.scores.min()) >= floor
        # Suppression moves boxes by class and largest coordinate, which rounds; a box at its limit may differ.
        assert abs(len(found) - int(kept.sum())) <= 3
        torch.testing.assert_close(found.scores[:4], before.scores[:4])

    for found, before in zip(predict(plugin, arch, PredictSpec(nms_iou=LOW)), usual, strict=True):
        assert float(overlaps(found).max()) <= LOW + 1e-5
        torch.testing.assert_close(found.boxes[0], before.boxes[0], msg="the best stays")

    assert max(len(found) for found in predict(plugin, arch, PredictSpec(max_detections=3))) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_model_that_suppresses_nothing_says_so() -> None:
    detr = "detr_r18_8xb2-500e_coco"
    with pytest.raises(InputError, match=r"model.nms_iou: 0.5 has no effect, .*suppresses no boxes by IoU; remove it"):
        predict("mmdet", detr, PredictSpec(nms_iou=0.5))
    floor = float(torch.cat([found.scores for found in predict("mmdet", detr, PredictSpec())]).median())
    assert all(float(found.scores.min()) >= floor for found in predict("mmdet", detr, PredictSpec(score_floor=floor)))


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_a_soft_suppression_that_goes_by_no_iou_is_told(method: str) -> None:
    """Of CornerNet: it lowers every score by a Gaussian of the IoU, so that a limit would change nothing."""
    from tlvision_openmmlab.mmdet.build import set_predict

    head = nn.Module()
    nms = {"type": "soft_nms", "iou_threshold": 0.5, "method": method}
    head.test_cfg = {"nms": nms}  # type: ignore[assignment]
    if method == "linear":
        set_predict(head, PredictSpec(nms_iou=0.3), "some_head")
        assert nms["iou_threshold"] == 0.3
        return
    with pytest.raises(InputError, match="'some_head' suppresses no boxes by IoU"):
        set_predict(head, PredictSpec(nms_iou=0.3), "some_head")
