"""What holds for all three toy models: the contract's groups, taps, gradients, weights and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tlvision.plugin import ROLES, get_plugin, map_groups
from tlvision.types import InputError, Target

ARCHITECTURES = get_plugin("toy").architectures()
CLASSES = ("a", "b", "c", "d")


def test_there_are_architectures() -> None:
    assert ARCHITECTURES == ("tiny_detector", "tiny_segmenter", "toy-instance")
    assert [get_plugin("toy").task_of(arch) for arch in ARCHITECTURES] == ["detect", "semantic", "instance"]


def test_importing_the_plugin_imports_no_torch() -> None:
    code = "import sys, tlvision_toy.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_groups_partition_the_model_from_input_to_output(arch: str, build) -> None:
    adapter, _ = build(arch, CLASSES)
    groups = map_groups(adapter.module, adapter.groups)
    assert groups.names() == ("stem", *(f"backbone.stage{i}" for i in range(1, 5)), "neck", "head")
    assert set(groups.parameters) == {name for name, _ in adapter.module.named_parameters()}
    assert set(groups.buffers) == {name for name, _ in adapter.module.named_buffers()}
    assert {group.role for group in adapter.groups} == set(ROLES)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_there_is_something_of_each_kind_to_freeze(arch: str, build) -> None:
    kinds = {type(module) for module in build(arch, CLASSES)[0].module.modules()}
    assert {nn.BatchNorm2d, nn.GroupNorm, nn.Dropout} <= kinds


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_taps_are_what_they_declare(arch: str, size: tuple[int, int], build) -> None:
    adapter, _ = build(arch, CLASSES)
    adapter.module.eval()
    features = adapter.features(torch.zeros(2, 3, *size))
    assert adapter.taps
    assert set(features) == {tap.name for tap in adapter.taps}
    for tap in adapter.taps:
        assert features[tap.name].shape == (2, tap.channels, size[0] // tap.stride, size[1] // tap.stride), tap
    strides = [tap.stride for tap in adapter.taps]
    assert strides == sorted(strides)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_gradients_reach_every_parameter(arch: str, build, scenes: tuple[Tensor, list[Target]]) -> None:
    adapter, _ = build(arch, CLASSES)
    adapter.module.train()
    sum(adapter.loss(*scenes).values()).backward()
    parameters = dict(adapter.module.named_parameters())
    without = [name for name, p in parameters.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert parameters
    assert without == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_loss_is_a_finite_scalar(arch: str, build, scenes: tuple[Tensor, list[Target]]) -> None:
    adapter, _ = build(arch, CLASSES)
    losses = adapter.loss(*scenes)
    assert losses
    for value in losses.values():
        assert value.shape == ()
        assert torch.isfinite(value)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_checkpoint_survives_a_round_trip(arch: str, build, tmp_path: Path) -> None:
    adapter, report = build(arch, CLASSES)
    assert sorted(report.missing) == sorted(adapter.module.state_dict())
    with torch.no_grad():
        for tensor in adapter.module.state_dict().values():
            tensor.add_(1)
    path = tmp_path / "model.safetensors"
    save_file(adapter.module.state_dict(), path, metadata={"classes": json.dumps(CLASSES)})
    assert path.stat().st_size < 4 * 2**20
    again, report = build(arch, CLASSES, weights=str(path))
    assert sorted(report.loaded) == sorted(adapter.module.state_dict())
    for (name, here), there in zip(
        again.module.state_dict().items(), adapter.module.state_dict().values(), strict=True
    ):
        assert torch.equal(here, there), name


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_rows_of_shared_classes_are_kept(arch: str, build, tmp_path: Path) -> None:
    old, _ = build(arch, CLASSES)
    keys = [key for key in old.class_keys if key.endswith("weight")]
    assert len(keys) == (2 if arch == "toy-instance" else 1)
    with torch.no_grad():
        for key in keys:
            rows = old.module.state_dict()[key]
            rows.copy_(torch.arange(4.0)[:, None, None, None].expand_as(rows))
    save_file(old.module.state_dict(), tmp_path / "m.safetensors", metadata={"classes": json.dumps(CLASSES)})
    new, report = build(arch, ("d", "x", "b"), weights=str(tmp_path / "m.safetensors"))
    for key in keys:
        rows = new.module.state_dict()[key].mean(dim=(1, 2, 3))
        assert (rows[0], rows[2]) == (3.0, 1.0)
        assert abs(rows[1]) < 0.5
        assert [entry for entry in report.remapped if entry.startswith(key)] == [f"{key}: rows d, b of 4; fresh x"]
    entries = (*report.loaded, *report.missing, *report.mismatched, *report.remapped)
    assert sorted(entry.split(":")[0] for entry in entries) == sorted(new.module.state_dict())


def test_weights_of_another_architecture_are_refused(build, tmp_path: Path) -> None:
    adapter, _ = build("tiny_detector", CLASSES)
    save_file(adapter.module.state_dict(), tmp_path / "m.safetensors", metadata={"classes": json.dumps(CLASSES)})
    with pytest.raises(
        InputError, match=r"not a checkpoint of 'tiny_segmenter'.*decoder\..*it has .*change model.arch"
    ):
        build("tiny_segmenter", CLASSES, weights=str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("weights", ["coco", "imagenet"])
def test_weights_that_are_not_offered_are_refused(weights: str, build) -> None:
    with pytest.raises(InputError, match=f"toy has no '{weights}' weights"):
        build("tiny_detector", CLASSES, weights=weights)


def test_unknown_architecture_names_the_nearest(build) -> None:
    with pytest.raises(InputError, match="Did you mean 'tiny_detector'"):
        build("tiny_detecter", CLASSES)
