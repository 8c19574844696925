"""Layer groups and taps of mmdet's backbones: what belongs together, in which order, and nothing left over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fast import first_fast
from tlvision.plugin import BuildSpec, HasInstanceFeatures, get_plugin, map_groups, record
from tlvision.types import ClassMap
from tlvision_openmmlab.mmdet.groups import find_groups

CONFIGS = Path(__file__).parent / "configs"
CLASSES = ClassMap.from_names(("ant", "bee", "cat"))
STAGES = ("backbone.stage1", "backbone.stage2", "backbone.stage3", "backbone.stage4")


def build(arch: str) -> Any:
    return get_plugin("mmdet").build(BuildSpec(arch=arch, weights="none", classes=CLASSES))[0]


# Backbone family: config, stem, and a part that the second and the last stage must hold.
FAMILIES = {
    "ResNet": ("retinanet_r18_fpn_1x_coco", "backbone.conv1", "backbone.layer2", "backbone.layer4"),
    "ResNeXt": ("retinanet_x101-32x4d_fpn_1x_coco", "backbone.conv1", "backbone.layer2", "backbone.layer4"),
    "Res2Net": ("faster-rcnn_res2net-101_fpn_2x_coco", "backbone.stem", "backbone.layer2", "backbone.layer4"),
    "MobileNetV2": ("faster-rcnn_mobilenet-v2_fpn", "backbone.layer1", "backbone.layer3", "backbone.conv2"),
    "Swin": ("mask-rcnn_swin-t-p4-w7_fpn_1x_coco", "backbone.patch_embed", "backbone.stages.1", "backbone.norm3"),
    "CSPDarknet": ("yolox_nano_8xb8-300e_coco", "backbone.stem", "backbone.stage2", "backbone.stage4"),
    "CSPNeXt": ("rtmdet_tiny_8xb32-300e_coco", "backbone.stem", "backbone.stage2", "backbone.stage4"),
    "Darknet": (
        "yolov3_d53_8xb8-320-273e_coco",
        "backbone.conv1",
        "backbone.conv_res_block3",
        "backbone.conv_res_block5",
    ),
    "HRNet": ("htc_hrnetv2p-w18_20e_coco", "backbone.conv1", "backbone.stage2", "backbone.stage4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_backbone_falls_into_stem_and_four_stages(family: str) -> None:
    arch, stem, second, last = FAMILIES[family]
    adapter = build(arch)
    groups = {group.name: group for group in adapter.groups}
    assert tuple(name for name in groups if groups[name].role == "backbone") == STAGES
    assert stem in groups["stem"].modules
    assert second in groups[STAGES[1]].modules
    assert last in groups[STAGES[3]].modules
    map_groups(adapter.module, adapter.groups)  # raises where a tensor is in two groups or in none


@pytest.mark.parametrize(
    ("arch", "expected"),
    first_fast(
        [
            ("faster-rcnn_mobilenet-v2_fpn", ["stem", *STAGES, "neck", "rpn_head", "roi_head.bbox_head"]),
            # Its decoder asks the box head for the next box, so neither of the two stands before the other.
            (str(CONFIGS / "dino_tiny.py"), ["stem", *STAGES, "neck", "encoder", "queries", "decoder"]),
            ("retinanet_r18_fpn_1x_coco", ["stem", *STAGES, "neck", "bbox_head"]),
            (
                "mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco",
                ["stem", *STAGES, "neck", "rpn_head", "roi_head.bbox_head", "roi_head.mask_head"],
            ),
            (
                "deformable-detr_r50_16xb2-50e_coco",
                ["stem", *STAGES, "neck", "encoder", "queries", "decoder", "bbox_head"],
            ),
            ("deformable-detr-refine_r50_16xb2-50e_coco", ["stem", *STAGES, "neck", "encoder", "queries", "decoder"]),
        ],
        2,
    ),
)
def test_groups_run_from_input_to_output(arch: str, expected: list[str]) -> None:
    assert [group.name for group in build(arch).groups] == expected


class OddBackbone(nn.Module):
    """A parameter of its own, a list, a part that is never run, and parts declared in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1))
        self.late = nn.Conv2d(4, 4, 3, 4, 1)
        self.early = nn.ModuleList([nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 4, 1)])
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for part in self.early:
            x = part(x)
        return x, self.late(x)


class OddModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = OddBackbone()
        self.bbox_head = nn.Linear(2, 2)

    def extract_feat(self, x: torch.Tensor) -> Any:
        return self.backbone(x)


def test_an_unknown_backbone_still_is_a_partition_in_the_order_in_which_it_runs() -> None:
    model = OddModel()
    groups = find_groups(model)
    map_groups(model, groups)
    assert [(group.name, group.modules) for group in groups] == [
        ("stem", ("backbone.early.0", "backbone.position")),
        ("backbone.stage1", ("backbone.early.1",)),
        ("backbone.stage2", ("backbone.late", "backbone.unused")),
        ("bbox_head", ("bbox_head",)),
    ]


def test_taps_are_the_maps_of_backbone_and_neck() -> None:
    adapter = build("retinanet_r18_fpn_1x_coco")
    images = torch.randn(2, 3, 64, 96)
    adapter.module.eval()
    with torch.no_grad():
        found = adapter.features(images)
        maps = adapter.module.backbone(images)
        pyramid = adapter.module.neck(maps)
    assert [tap.name for tap in adapter.taps] == ["c2", "c3", "p3", "c4", "p4", "c5", "p5"]
    for name, expected in zip(("c2", "c3", "c4", "c5", "p3", "p4", "p5"), (*maps, *pyramid[:3]), strict=True):
        assert torch.equal(found[name], expected), name


def test_instance_features_pool_what_the_box_head_reads() -> None:
    adapter = build("faster-rcnn_mobilenet-v2_fpn")
    assert isinstance(adapter, HasInstanceFeatures)
    assert not isinstance(build("retinanet_r18_fpn_1x_coco"), HasInstanceFeatures)
    images = torch.randn(2, 3, 64, 64)
    boxes = [torch.tensor([[4.0, 4.0, 40.0, 40.0], [0.0, 0.0, 16.0, 16.0]]), torch.zeros(0, 4)]
    adapter.module.eval()
    seen: list[torch.Tensor] = []
    handle = adapter.module.roi_head.bbox_roi_extractor.register_forward_hook(lambda m, i, output: seen.append(output))
    one, none = adapter.instance_features(images, boxes)
    handle.remove()
    assert one.features.shape == (2, 128)
    assert none.features.shape == (0, 128)
    assert torch.allclose(one.features, seen[0].flatten(2).mean(2))
    assert one.features.requires_grad
    own = adapter.instance_features(images)
    assert all(len(each.boxes) == len(each.features) > 0 for each in own)
    assert all(not each.boxes.requires_grad for each in own)
    with record(adapter.module, adapter.pyramid_path) as pyramids:
        adapter.features(images)
    handle = adapter.module.backbone.register_forward_hook(lambda *_: pytest.fail("the backbone ran once more"))
    again = adapter.instance_features(images, pyramid=pyramids[0])
    handle.remove()
    assert all(torch.equal(each.features, whole.features) for each, whole in zip(again, own, strict=True))
    few = adapter.instance_features(images, most=2)
    for each, whole in zip(few, own, strict=True):
        assert torch.equal(each.boxes, whole.boxes[:2])
        torch.testing.assert_close(each.features, whole.features[:2])
