"""Layer groups and taps of every detector and backbone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from fast import first_fast
from tlvision.plugin import ROLES, map_groups
from tlvision_torchvision.architectures import ARCHITECTURES, BACKBONES, DETECTORS

FAST = ("mobilenet_v2", "resnet18", "efficientnet_b0", "regnet_x_400mf", "mnasnet0_5", "shufflenet_v2_x0_5")
# Every backbone, the detectors in turn, and all of torchvision's own.
TURNS = [f"{DETECTORS[at % len(DETECTORS)]}_{backbone}_fpn" for at, backbone in enumerate(BACKBONES)]
ALL = [
    "fasterrcnn_swin_t_fpn",
    "retinanet_swin_t_fpn",
    *TURNS,
    *(name for name, arch in ARCHITECTURES.items() if arch.coco),
]
assert len(ALL) > 60


def check(adapter: Any, arch: str) -> None:
    groups = map_groups(adapter.module, adapter.groups)
    names = groups.names()
    assert names[0] == "stem"
    assert names[1:4] == ("backbone.stage1", "backbone.stage2", "backbone.stage3")
    two_stage = arch.startswith(("faster", "mask"))
    assert names[-3:] == ("neck", "head.rpn", "head.roi") if two_stage else names[-2:] == ("neck", "head")
    roles = [ROLES.index(group.role) for group in groups.groups]
    assert all(a <= b for a, b in pairwise(roles))
    assert {*groups.parameters.values(), *groups.buffers.values()} == set(range(len(names))), "a group holds nothing"

    taps = adapter.taps
    adapter.module.eval()
    features = adapter.features(torch.rand(1, 3, 128, 160))
    assert set(features) == {tap.name for tap in taps}
    assert [tap.stride for tap in taps] == sorted(tap.stride for tap in taps)
    for tap in taps:
        assert features[tap.name].shape == (1, tap.channels, 128 // tap.stride, 160 // tap.stride), tap
    first = 3 if "swin" in arch and not two_stage else 2
    assert [tap.name for tap in taps if tap.name[0] == "c"] == [f"c{level}" for level in range(first, 6)]
    if not ARCHITECTURES[arch].coco:
        pyramid = ["p2", "p3", "p4", "p5"] if two_stage else ["p3", "p4", "p5"]
        assert [tap.name for tap in taps if tap.name[0] == "p"] == pyramid


@pytest.mark.parametrize("arch", [f"fasterrcnn_{backbone}_fpn" for backbone in FAST])
def test_groups_and_taps(build: Any, arch: str) -> None:
    check(build(arch)[0], arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ALL)
def test_groups_and_taps_everywhere(build: Any, arch: str) -> None:
    check(build(arch)[0], arch)


@pytest.mark.parametrize(
    "arch", first_fast(["fasterrcnn_resnet18_fpn", "ssdlite320_mobilenet_v3_large", "fcos_swin_t_fpn"], 2)
)
def test_building_leaves_a_model_in_train_mode_and_fresh(build: Any, arch: str) -> None:
    adapter, _ = build(arch)
    assert all(module.training for module in adapter.module.modules())
    assert all(parameter.requires_grad for parameter in adapter.module.parameters()), "freezing is the hooks' work"
    norms = [module for module in adapter.module.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 0 for norm in norms)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in adapter.module.modules())


def test_no_layer_feeds_an_earlier_group(build: Any) -> None:
    adapter, _ = build("fasterrcnn_mobilenet_v2_fpn")
    order: list[str] = []
    for name, module in adapter.module.named_modules():
        if name and next(module.children(), None) is None:
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    adapter.module.eval()
    adapter.predict(torch.rand(1, 3, 64, 64))
    depths = map_groups(adapter.module, adapter.groups).modules
    passed = [depths[name] for name in order if name in depths]
    assert len(passed) > 50
    assert passed == sorted(passed)
