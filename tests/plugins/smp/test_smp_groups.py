"""Layer groups and taps of every decoder and every make of encoder."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from fast import first_fast
from tlvision.plugin import ROLES, Tap, map_groups
from tlvision.plugin.stages import find_stages
from tlvision_smp.groups import find_groups, probe

DECODERS = {
    "unet/mobilenet_v2": 7,
    "unetplusplus/resnet18": 7,
    "deeplabv3/resnet18": 7,
    "deeplabv3plus/mobilenet_v2": 7,
    "fpn/mit_b0": 7,
    "pspnet/mobilenet_v2": 5,
    "pan/resnet18": 7,
    "linknet/efficientnet-b0": 7,
    "manet/mobilenet_v2": 7,
    "upernet/tu-swin_tiny_patch4_window7_224": 7,
    "segformer/tu-convnext_atto": 7,
    "dpt/tu-vit_tiny_patch16_224": 7,
}
"""One model of each decoder, and its number of groups."""

MAKES = (
    "densenet121", "dpn68", "vgg11", "vgg11_bn", "se_resnet50", "inceptionv4", "inceptionresnetv2", "xception",
    "mobileone_s0", "resnext50_32x4d", "timm-efficientnet-b0", "timm-tf_efficientnet_lite0", "timm-skresnet18",
    "tu-resnet18", "tu-mobilenetv3_small_050", "tu-hrnet_w18_small", "tu-dla34", "tu-edgenext_xx_small",
    "tu-repvgg_a0", "tu-vgg11", "tu-pvt_v2_b0", "tu-regnetx_002", "tu-fastvit_t8", "tu-twins_svt_small",
    "tu-mambaout_femto",
)  # fmt: skip


def check_groups(adapter: Any) -> None:
    groups = map_groups(adapter.module, adapter.groups)
    assert groups.names()[0] == "stem"
    assert groups.names()[-2:] == ("neck", "head")
    roles = [ROLES.index(group.role) for group in groups.groups]
    assert roles == sorted(roles)
    stages = [name for name in groups.names() if name.startswith("backbone.")]
    assert stages == [f"backbone.stage{number}" for number in range(1, len(stages) + 1)]
    held = set(groups.parameters.values())
    assert held == set(range(len(groups.groups))), "every group has parameters"


def check_order(adapter: Any) -> None:
    """Change one group after the other and see from which map on it shows."""
    torch.manual_seed(1)
    adapter.module.eval()
    groups = map_groups(adapter.module, adapter.groups)
    side = max(64, adapter.input_spec.multiple_of)
    images = torch.randn(1, 3, side, side)
    maps = [tap.name for tap in sorted(adapter.taps, key=lambda tap: tap.name) if tap.name != "decoder"]
    first = []
    with torch.no_grad():
        before = adapter.features(images)
        for depth in range(len(groups.groups)):
            names = [name for name, at in groups.parameters.items() if at == depth]
            kept = {name: adapter.module.get_parameter(name).clone() for name in names}
            for name in names:
                parameter = adapter.module.get_parameter(name)
                parameter.add_(0.2 * (parameter.abs().mean() + 0.01) * torch.randn_like(parameter))
            after = adapter.features(images)
            first.append(next((at for at, name in enumerate(maps) if not after[name].equal(before[name])), len(maps)))
            for name, value in kept.items():
                adapter.module.get_parameter(name).copy_(value)
    assert first == sorted(first), first
    assert first[-2:] == [len(maps)] * 2, "neither decoder nor head shows in a map of the encoder"
    assert first[0] == 0
    assert all(before < after for before, after in pairwise(first[1:-2])), f"each stage has maps of its own: {first}"
    # VGG's last map is another's, pooled.
    assert first[-3] >= len(maps) - 2


@pytest.mark.parametrize("arch", first_fast(DECODERS, 3))
def test_groups_and_taps_of_every_decoder(build: Any, arch: str) -> None:
    adapter, _ = build(arch)
    check_groups(adapter)
    assert len(adapter.groups) == DECODERS[arch]
    check_taps(adapter)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", MAKES)
def test_groups_and_taps_of_every_make_of_encoder(build: Any, encoder: str) -> None:
    adapter, _ = build(f"unet/{encoder}")
    check_groups(adapter)
    check_taps(adapter)
    check_order(adapter)


@pytest.mark.parametrize("arch", first_fast(["unet/mobilenet_v2", "fpn/mit_b0", "dpt/tu-vit_tiny_patch16_224"], 2))
def test_the_order_is_that_of_the_computation(build: Any, arch: str) -> None:
    check_order(build(arch)[0])


def check_taps(adapter: Any) -> None:
    taps = adapter.taps
    assert [tap.stride for tap in taps] == sorted(tap.stride for tap in taps)
    assert "decoder" in {tap.name for tap in taps}
    step = adapter.input_spec.multiple_of
    assert all(step % tap.stride == 0 for tap in taps)
    adapter.module.eval()
    height, width = max(step, 64), max(step, 64) + step
    images = torch.zeros(2, 3, height, width)
    with torch.no_grad():
        features = adapter.features(images)
        logits = adapter.dense_logits(images)
    assert logits.shape == (2, 3, height, width)
    assert {name: tuple(map_.shape) for name, map_ in features.items()} == {
        tap.name: (2, tap.channels, height // tap.stride, width // tap.stride) for tap in taps
    }


def test_taps_are_the_encoders_own_list(build: Any) -> None:
    adapter, _ = build("unet/mobilenet_v2")
    assert adapter.taps == (
        Tap("decoder", "decoder", 16, 1),
        Tap("c1", "tap_points.c1", 16, 2),
        Tap("c2", "tap_points.c2", 24, 4),
        Tap("c3", "tap_points.c3", 32, 8),
        Tap("c4", "tap_points.c4", 96, 16),
        Tap("c5", "tap_points.c5", 1280, 32),
    )
    adapter.module.eval()
    images = torch.rand(1, 3, 64, 64)
    own, found = adapter.module.encoder(images), adapter.features(images)
    for number in range(1, 6):
        torch.testing.assert_close(found[f"c{number}"], own[number])


def test_taps_hold_nothing_and_work_in_a_copy(build: Any) -> None:
    adapter, _ = build("unet/mobilenet_v2")
    assert not any(key.startswith("tap_points") for key in adapter.module.state_dict())
    twin = copy.deepcopy(adapter.module)
    for parameter in twin.parameters():
        parameter.data.mul_(2)
    seen = []
    twin.tap_points["c3"].register_forward_hook(lambda module, inputs, output: seen.append(output))
    twin(torch.rand(2, 3, 64, 64))
    assert len(seen) == 1, "a copy's maps go through the copy's places"


def test_dilated_stages_have_taps_of_their_own(build: Any) -> None:
    taps = {tap.name: tap.stride for tap in build("deeplabv3/resnet18")[0].taps}
    assert taps == {"c1": 2, "c2": 4, "c3": 8, "c4": 8, "c5": 8, "decoder": 8}


@pytest.mark.slow
def test_a_map_of_the_images_own_size_is_no_tap(build: Any) -> None:
    adapter, _ = build("unet/tu-vgg11")
    strides = {tap.name: tap.stride for tap in adapter.taps}
    assert strides == {"decoder": 1, "c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}
    check_taps(adapter)


def test_layers_that_are_not_used_are_in_the_last_stage(build: Any) -> None:
    groups = {group.name: group for group in build("pspnet/mobilenet_v2")[0].groups}
    assert list(groups) == ["stem", "backbone.stage1", "backbone.stage2", "neck", "head"]
    assert "encoder.features.18" in groups["backbone.stage2"].modules


@pytest.mark.slow
def test_a_transformers_stem_is_its_embedding(build: Any) -> None:
    stem = build("dpt/tu-vit_tiny_patch16_224")[0].groups[0].modules
    inside = {path.removeprefix("encoder.model.") for path in stem}
    assert inside == {"pos_embed", "cls_token", "patch_embed", "pos_drop"}
    swin = build("upernet/tu-swin_tiny_patch4_window7_224")[0].groups[0].modules
    assert swin == ("encoder.model.patch_embed",)


class Odd(nn.Module):
    """An encoder with a parameter of its own, constants, dropout between stages and a layer that is not used."""

    output_stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("ramp", torch.ones(1))
        self.early = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4, affine=False))
        self.drop_between = nn.Dropout(0.5)
        self.late = nn.Conv2d(4, 8, 3, 2, 1)
        self.unused = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        one = self.early(x * self.scale * self.ramp)
        return [x, one, self.late(self.drop_between(one))]


def test_odd_parts_of_an_encoder_find_a_stage() -> None:
    encoder = Odd().eval()
    early, late = find_stages(encoder, "encoder", encoder(torch.zeros(1, 3, 8, 8)))
    assert set(early) == {"encoder.scale", "encoder.ramp", "encoder.early", "encoder.drop_between"}
    assert set(late) == {"encoder.late", "encoder.unused"}


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = Odd(), nn.Conv2d(8, 4, 1), nn.Upsample(scale_factor=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.segmentation_head(self.decoder(self.encoder(x)[-1]))
        return scores


def test_a_probe_leaves_no_trace() -> None:
    model = Segmenter()
    model.encoder.early.eval()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    seen = probe(model, 4)
    assert [tuple(map_.shape) for map_ in seen.maps] == [(1, 3, 64, 128), (1, 4, 32, 64), (1, 8, 16, 32)]
    assert tuple(seen.decoded.shape) == (1, 4, 16, 32)
    assert [module.training for module in model.modules()] == modes
    assert all(tensor.equal(state[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert [group.name for group in find_groups(model, seen)] == ["stem", "backbone.stage1", "neck", "head"]


def test_scores_of_another_size_are_refused() -> None:
    model = Segmenter()
    model.segmentation_head = nn.Upsample(scale_factor=2)
    with pytest.raises(ValueError, match=r"scores of \(32, 64\) for an image of \(64, 128\)"):
        probe(model, 4)
    assert not any(module._forward_hooks for module in model.modules())
