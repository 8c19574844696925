"""Layer groups and taps of mmseg's segmenters: what belongs together, in which order, and nothing left over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.plugin import BuildSpec, get_plugin, map_groups
from tlvision.types import ClassMap

CONFIGS = Path(__file__).parent / "configs"
CLASSES = ClassMap.from_names(("ant", "bee", "cat"))
STAGES = ["backbone.stage1", "backbone.stage2", "backbone.stage3", "backbone.stage4"]


def build(arch: str, image_size: int = 128) -> Any:
    torch.manual_seed(0)
    spec = BuildSpec(arch=arch, weights="none", classes=CLASSES, image_size=image_size)
    return get_plugin("mmseg").build(spec)[0]


# Config, what follows the four stages, and a part that the stem, the second and the last stage must hold.
FAMILIES = {
    "ResNet": (
        "fcn_r18-d8_4xb2-80k_cityscapes-512x1024",
        ["decode_head", "auxiliary_head"],
        ("backbone.stem", "backbone.layer2", "backbone.layer4"),
    ),
    "MobileNetV2": (
        "deeplabv3plus_mobilenet-v2-d16",
        ["decode_head", "auxiliary_head"],
        ("backbone.layer1", "backbone.layer3", "backbone.layer7"),
    ),
    "MiT": (
        "segformer_mit-b0_8xb2-160k_ade20k-512x512",
        ["decode_head"],
        ("backbone.layers.0.0", "backbone.layers.1.0", "backbone.layers.3.2"),
    ),
    "MSCAN": (
        "segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512",
        ["decode_head"],
        ("backbone.patch_embed1", "backbone.patch_embed2", "backbone.norm4"),
    ),
    "BiSeNetV1": (
        "bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024",
        ["fusion", "decode_head", "auxiliary_head.0", "auxiliary_head.1"],
        (
            "backbone.context_path.backbone.conv1",
            "backbone.context_path.backbone.layer2",
            "backbone.context_path.backbone.layer4",
        ),
    ),
    "BiSeNetV2": (
        "bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
        ["decode_head", *(f"auxiliary_head.{at}" for at in range(4))],
        ("backbone.detail", "backbone.semantic.stage2", "backbone.bga"),
    ),
    "STDC": (
        "stdc1_4xb12-80k_cityscapes-512x1024",
        ["fusion", "decode_head", *(f"auxiliary_head.{at}" for at in range(3))],
        ("backbone.backbone.stages.0", "backbone.backbone.stages.2", "backbone.backbone.stages.4"),
    ),
    "HRNet": (
        "fcn_hr18s_4xb2-40k_cityscapes-512x1024",
        ["decode_head"],
        ("backbone.conv1", "backbone.stage2", "backbone.stage4"),
    ),
    "ViT": (
        "segmenter_vit-t_mask_8xb1-160k_ade20k-512x512",
        ["decode_head"],
        ("backbone.pos_embed", "backbone.layers.5", "backbone.ln1"),
    ),
    "Fast-SCNN": (
        "fast_scnn_8xb4-160k_cityscapes-512x1024",
        ["decode_head", "auxiliary_head.0", "auxiliary_head.1"],
        (
            "backbone.learning_to_downsample.conv",
            "backbone.learning_to_downsample.dsconv2",
            "backbone.feature_fusion.conv_higher_res",
        ),
    ),
    "mask classifier": (
        str(CONFIGS / "mask2former_tiny.py"),
        ["pixel_decoder", "decode_head"],
        ("backbone.conv1", "backbone.layer2", "backbone.layer4"),
    ),
}
SLOW = {"ViT", "Fast-SCNN", "HRNet", "BiSeNetV2", "STDC", "mask classifier"}


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FAMILIES]
)
def test_each_backbone_falls_into_stem_and_four_stages(family: str) -> None:
    arch, rest, (stem, second, last) = FAMILIES[family]
    adapter = build(arch)
    groups = {group.name: group for group in adapter.groups}
    assert list(groups) == ["stem", *STAGES, *rest]
    assert stem in groups["stem"].modules
    assert second in groups[STAGES[1]].modules
    assert last in groups[STAGES[3]].modules
    map_groups(adapter.module, adapter.groups)  # raises where a tensor is in two groups or in none


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("pidnet-s_2xb6-120k_1024x1024-cityscapes", ["stem", *STAGES[:2], "decode_head"]),
        ("ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024", ["stem", *STAGES[:2], "decode_head"]),
        ("cgnet_fcn_4xb4-60k_cityscapes-680x680", ["stem", *STAGES[:2], "decode_head"]),
        ("erfnet_fcn_4xb4-160k_cityscapes-512x1024", ["stem", *STAGES, "fusion", "decode_head"]),
        (
            "icnet_r18-d8_4xb2-80k_cityscapes-832x832",
            ["stem", *STAGES, "fusion", "neck", "decode_head", "auxiliary_head.0", "auxiliary_head.1"],
        ),
        (
            "unet-s5-d16_fcn_4xb4-40k_drive-64x64",
            ["stem", *STAGES[:3], "fusion", "decode_head", "auxiliary_head"],
        ),
        ("ocrnet_hr18s_4xb2-40k_cityscapes-512x1024", ["stem", *STAGES, "decode_head.0", "decode_head.1"]),
    ],
)
def test_groups_run_from_input_to_output(arch: str, expected: list[str]) -> None:
    adapter = build(arch)
    assert [group.name for group in adapter.groups] == expected
    map_groups(adapter.module, adapter.groups)


def test_taps_are_the_maps_of_the_backbone_and_what_the_head_classifies() -> None:
    adapter = build("fcn_r18-d8_4xb2-80k_cityscapes-512x1024")
    images = torch.randn(2, 3, 64, 96)
    adapter.module.eval()
    with torch.no_grad():
        found = adapter.features(images)
        maps = adapter.module.backbone(images)
        scores = adapter.module.decode_head(maps)
    assert {tap.name: tap.stride for tap in adapter.taps} == {"c2": 4, "c3": 8, "c4": 8, "c5": 8, "decode": 8}
    for name, expected in zip(("c2", "c3", "c4", "c5"), maps, strict=True):
        assert torch.equal(found[name], expected), name
    assert torch.equal(adapter.module.decode_head.conv_seg(found["decode"]), scores)


def test_a_tap_is_the_same_map_in_both_modes_where_the_model_gives_more_in_training() -> None:
    adapter = build("pidnet-s_2xb6-120k_1024x1024-cityscapes")
    (tap,) = (tap for tap in adapter.taps if tap.name == "c3")
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        adapter.module.train(mode)
        assert adapter.features(images)["c3"].shape == (2, tap.channels, 8, 8)
