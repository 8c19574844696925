"""The adapter against upstream's own way: the same losses, the same detections, on the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fast import first_fast
from tlvision.data.batches import normalise
from tlvision.formats.coco.read import read_coco
from tlvision.inference.evaluator import Evaluator
from tlvision.plugin import Adapter, BuildSpec, get_plugin
from tlvision.tasks import get_task
from tlvision.training.fabric import make_fabric
from tlvision.training.settings import TrainSettings
from tlvision.types import ClassMap, InputSpec, Target
from tlvision_openmmlab.common.engine import InstanceData, without_old_style
from tlvision_openmmlab.mmdet.config import read_config
from tlvision_openmmlab.mmdet.upstream import MODELS, BitmapMasks, DetDataSample
from tlvision_openmmlab.mmdet.zoo import find_config

CONFIGS = Path(__file__).parent / "configs"
CLASSES = ClassMap.from_names(("ant", "bee", "cat"))
ARCHITECTURES = [
    "yolox_nano_8xb8-300e_coco",
    str(CONFIGS / "mask-rcnn_tiny.py"),
    str(CONFIGS / "faster-rcnn_tiny.py"),
    "retinanet_r18_fpn_1x_coco",
    str(CONFIGS / "deformable-detr_tiny.py"),
]


def build(arch: str) -> Adapter:
    torch.manual_seed(0)
    return get_plugin("mmdet").build(BuildSpec(arch=arch, weights="none", classes=CLASSES))[0]


def pictures(size: tuple[int, int] = (96, 128)) -> torch.Tensor:
    """(2, 3, H, W) uint8 RGB."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, *size), dtype=np.uint8))


def targets(size: tuple[int, int], *, masks: bool) -> list[Target]:
    found = []
    for boxes in ([[8.0, 8.0, 60.0, 70.0], [50.0, 20.0, 120.0, 90.0]], [[30.0, 10.0, 80.0, 60.0]]):
        drawn = torch.zeros((len(boxes), *size), dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(drawn, np.array(boxes, int), strict=True):
            mask[y0:y1, x0:x1] = 1
        found.append(
            Target(
                boxes=torch.tensor(boxes),
                labels=torch.arange(len(boxes)),
                crowd=torch.zeros(len(boxes), dtype=torch.bool),
                masks=drawn if masks else None,
            )
        )
    return found


def upstreams_way(arch: str, adapter: Any, images: torch.Tensor, found: list[Target]) -> Any:
    """Run upstream's pre-processing, whole loss and sum, on BGR images as its own loader gives them."""
    from mmengine.registry import DefaultScope

    settings = {**read_config(find_config(arch).path).model["data_preprocessor"]}
    settings.pop("batch_augments", None)
    with DefaultScope.overwrite_default_scope("mmdet"):
        preprocessor = MODELS.build(settings)
    samples = []
    for target in found:
        height, width = images.shape[-2:]
        meta = {"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=target.boxes, labels=target.labels)
        if target.masks is not None:
            sample.gt_instances.masks = BitmapMasks(target.masks.numpy(), height, width)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    data = preprocessor({"inputs": list(images.flip(1)), "data_samples": samples}, training=True)
    torch.manual_seed(7)
    with without_old_style():
        losses = adapter.module.loss(data["inputs"], data["data_samples"])
    return adapter.module.parse_losses(losses)[0]


@pytest.mark.parametrize("arch", first_fast(ARCHITECTURES, 2), ids=lambda arch: Path(arch).stem)
def test_the_losses_are_what_upstream_sums(arch: str) -> None:
    adapter = build(arch)
    images, has_masks = pictures(), find_config(arch).task == "instance"
    found = targets((96, 128), masks=has_masks)
    torch.manual_seed(7)
    ours = sum(adapter.loss(normalise(images, adapter.input_spec), found).values())
    theirs = upstreams_way(arch, adapter, images, found)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (
            "faster-rcnn_r50_fpn_1x_coco",
            InputSpec(
                place="corner",
                mean=(123.675, 116.28, 103.53),
                std=(58.395, 57.12, 57.375),
                value_range=255.0,
                pad_value=(124, 116, 104),
            ),
        ),
        ("yolox_nano_8xb8-300e_coco", InputSpec(place="corner", channel_order="bgr", value_range=255.0)),
        (
            "rtmdet_tiny_8xb32-300e_coco",
            InputSpec(
                place="corner",
                channel_order="bgr",
                value_range=255.0,
                mean=(103.53, 116.28, 123.675),
                std=(57.375, 57.12, 58.395),
            ),
        ),
    ],
)
def test_the_configs_normalisation_is_the_input_spec(arch: str, expected: InputSpec) -> None:
    assert read_config(find_config(arch).path).input_spec == expected


def test_nothing_that_the_config_freezes_is_frozen() -> None:
    for arch in ("retinanet_r18_fpn_1x_coco", "fcos_r50-caffe_fpn_gn-head_1x_coco"):
        module = build(arch).module.train()
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert all(child.training for child in module.modules())


def test_masks_lie_in_their_boxes_and_are_at_most_a_hundred() -> None:
    adapter = build(str(CONFIGS / "mask-rcnn_tiny.py"))
    adapter.module.eval()
    images = normalise(pictures(), adapter.input_spec)
    for found in adapter.predict(images):
        assert found.masks is not None
        assert found.masks.shape == (len(found), 96, 128)
        assert 0 < len(found) <= 100
        for box, mask in zip(found.boxes, found.masks, strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            if len(rows):
                assert columns.min() >= box[0] - 2
                assert columns.max() <= box[2] + 2
                assert rows.min() >= box[1] - 2
                assert rows.max() <= box[3] + 2


def test_a_model_that_gives_masks_alone_gets_boxes_around_them() -> None:
    from tlvision_openmmlab.mmdet.adapter import _with_mask_bounds

    masks = torch.zeros((2, 10, 12), dtype=torch.uint8)
    masks[0, 3:5, 2:9] = 1
    assert _with_mask_bounds(torch.zeros(2, 4), masks).tolist() == [[2.0, 3.0, 9.0, 5.0], [0.0, 0.0, 0.0, 0.0]]
    boxes = torch.tensor([[1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(_with_mask_bounds(boxes, masks), boxes)


@pytest.mark.shared
@pytest.mark.slow
def test_yolox_nano_reaches_its_published_number_through_our_evaluation(shared: Path, tmp_path: Path) -> None:
    data = read_coco(shared / "data/coco128/val.json", shared / "data/coco128/images", require_objects=False)
    weights = str(shared / "weights" / "yolox_nano-coco-mmdet-from-onnx.pth")
    spec = BuildSpec(arch="yolox_nano_8xb8-300e_coco", weights=weights, classes=data.classes, image_size=416)
    adapter, report = get_plugin("mmdet").build(spec)
    assert not (*report.missing, *report.mismatched)
    evaluator = Evaluator(
        task=get_task("detect"),
        data=data,
        ground_truth=data.path,
        out=tmp_path,
        fabric=make_fabric(TrainSettings(epochs=1, device="cpu")),
        image_size=416,
        batch_size=8,
        workers=0,
    )
    assert evaluator.evaluate(adapter)["bbox/AP"] >= 0.340
