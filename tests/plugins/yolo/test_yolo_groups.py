"""Groups and taps against the real graph: what a change of one group does, and what a forward pass gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from fast import first_fast
from tlvision.plugin import ROLES, BuildSpec, map_groups
from tlvision.types import ClassMap
from tlvision_yolo.plugin import plugin

SMALL = ("yolov8n", "yolov10n", "yolo26n", "yolov5nu", "yolov9t", "yolo11n", "yolo12n")
LARGE = ("yolov9c", "yolov9e", "yolov10b")


@pytest.fixture(scope="module")
def built() -> Callable[[str], Any]:
    """Return `built(arch)`, which builds each model once for all tests of this file."""

    @cache
    def built(arch: str) -> Any:
        torch.manual_seed(0)
        spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(("a", "b", "c")))
        return plugin.build(spec)[0]

    return built


@pytest.mark.parametrize("arch", first_fast(SMALL + LARGE, 3))
def test_groups_partition_the_model_from_stem_to_head(built: Any, arch: str) -> None:
    adapter = built(arch)
    found = map_groups(adapter.module, adapter.groups)
    roles = [group.role for group in found.groups]
    assert roles == sorted(roles, key=ROLES.index)
    assert set(roles) == set(ROLES)
    assert found.names()[0] == "stem"
    assert found.names()[-1] == "head"
    assert [name for name in found.names() if name.startswith("neck")] == [
        "neck.top_down1",
        "neck.top_down2",
        "neck.bottom_up1",
        "neck.bottom_up2",
    ]
    assert set(found.parameters.values()) == set(range(len(roles))), "a group without parameters"
    layers = [path for group in found.groups for path in group.modules]
    assert sorted(layers) == sorted(f"model.{index}" for index in range(len(adapter.module.model)))


@pytest.mark.parametrize("arch", first_fast([arch for arch in SMALL + LARGE if arch != "yolov9e"], 3))
def test_a_stage_ends_with_the_finest_map_of_its_stride(built: Any, arch: str) -> None:
    adapter = built(arch)
    names = [group.name for group in adapter.groups]
    assert names[:5] == ["stem", *(f"backbone.stage{number}" for number in range(1, 5))]
    last = {group.name: group.modules[-1] for group in adapter.groups}
    paths = {tap.name: tap.module_path for tap in adapter.taps}
    for stage, tap in (("stage2", "c3"), ("stage3", "c4"), ("stage4", "c5")):
        assert last[f"backbone.{stage}"] == paths[tap]
    for group, tap in (("top_down2", "p3"), ("bottom_up1", "p4"), ("bottom_up2", "p5")):
        assert last[f"neck.{group}"] == paths[tap]


def layer_outputs(module: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """Return one tensor per layer, several maps of a layer joined into one."""
    outputs: list[torch.Tensor] = []

    def record(layer: nn.Module, inputs: Any, output: Any) -> None:
        output = output[0] if layer is module.model[-1] else output
        maps = output if isinstance(output, list | tuple) else [output]
        outputs.append(torch.cat([one.flatten() for one in maps]))

    handles = [layer.register_forward_hook(record) for layer in module.model]
    with torch.no_grad():
        module(images)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize("arch", first_fast(["yolov8n", "yolov10n", "yolo26n", "yolov5nu", "yolov9e"], 2))
def test_changing_a_group_never_changes_an_earlier_one(built: Any, arch: str) -> None:
    adapter = built(arch)
    module = adapter.module.eval()
    images = torch.rand(1, 3, 64, 64)
    before = layer_outputs(module, images)
    groups = adapter.groups
    depth_of = {int(path.split(".")[1]): depth for depth, group in enumerate(groups) for path in group.modules}
    parameters = dict(module.named_parameters())
    owners = map_groups(module, groups).parameters
    for depth, group in enumerate(groups):
        own = [parameters[name] for name, owner in owners.items() if owner == depth]
        kept = [parameter.detach().clone() for parameter in own]
        with torch.no_grad():
            for parameter in own:
                parameter.add_(torch.randn_like(parameter) * 0.5)
        after = layer_outputs(module, images)
        changed = {depth_of[index] for index, (a, b) in enumerate(zip(before, after, strict=True)) if not a.equal(b)}
        assert changed, group.name
        assert min(changed) == depth, f"{group.name} changes {groups[min(changed)].name}"
        with torch.no_grad():
            for parameter, old in zip(own, kept, strict=True):
                parameter.copy_(old)


@pytest.mark.parametrize("arch", first_fast(SMALL + LARGE, 3))
def test_taps_have_the_channels_and_strides_they_say(built: Any, arch: str) -> None:
    adapter = built(arch)
    taps = adapter.taps
    assert [tap.name for tap in taps] == ["c3", "p3", "c4", "p4", "c5", "p5"]
    assert [tap.stride for tap in taps] == [8, 8, 16, 16, 32, 32]
    for training, (height, width) in ((True, (64, 64)), (False, (64, 96))):
        adapter.module.train(training)
        features = adapter.features(torch.rand(2, 3, height, width))
        assert set(features) == {tap.name for tap in taps}
        for tap in taps:
            assert features[tap.name].shape == (2, tap.channels, height // tap.stride, width // tap.stride)


@pytest.mark.parametrize("arch", ["yolov8n", "yolov10n"])
def test_taps_feed_the_head(built: Any, arch: str) -> None:
    adapter = built(arch)
    seen: list[torch.Tensor] = []
    hook = adapter.module.model[-1].register_forward_pre_hook(lambda head, inputs: seen.extend(inputs[0]))
    features = adapter.features(torch.rand(1, 3, 64, 64))
    hook.remove()
    assert len(seen) == 3
    for name, given in zip(("p3", "p4", "p5"), seen, strict=True):
        assert features[name].equal(given)


def test_finding_groups_leaves_the_model_as_built(build: Any) -> None:
    adapter, _ = build("yolov8n")
    norms = [module for module in adapter.module.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == 0 and norm.running_mean.eq(0).all() for norm in norms)
    assert all(module.training for module in adapter.module.modules())
    assert all(not module._forward_hooks for module in adapter.module.modules())
