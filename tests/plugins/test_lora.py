"""LoRA on every model family: unchanged at the start, frozen weights stay, and merged weights predict the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tlvision
from families import FAMILIES, build_family, classes_of, outline, task_of, write_weights
from tlvision.engine.merge import merge_run
from tlvision.engine.model_hooks import modify_model
from tlvision.hooks.model.lora import Lora
from tlvision.plugin import Adapter, BuildSpec, get_plugin
from tlvision.training.checkpoint import save_weights
from tlvision.types import ClassMap, Prediction

pytestmark = pytest.mark.slow


def values(found: Prediction) -> list[torch.Tensor]:
    tensors = (found.boxes, found.scores, found.labels, found.masks, found.semantic)
    return [torch.as_tensor(value) for value in tensors if value is not None]


def predict(adapter: Adapter) -> list[torch.Tensor]:
    adapter.module.eval()
    size = adapter.input_spec.multiple_of * -(-96 // adapter.input_spec.multiple_of)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [tensor for found in adapter.predict(images) for tensor in values(found)]


def without_zero_scales(path: str, classes: ClassMap) -> str:
    """Set scales of 0 to 1: residual blocks may begin with a norm of scale 0, and have no gradient before it."""
    state = load_file(path)
    state |= {name: tensor + 1 for name, tensor in state.items() if name.endswith("weight") and _is_zero_scale(tensor)}
    save_weights(Path(path), state, classes)
    return path


def _is_zero_scale(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 1 and not tensor.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_on_every_family(family: str, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    plugin, arch = FAMILIES[family]
    plain, adapter = build_family(family), build_family(family)
    modify_model([Lora(rank=4)], adapter)
    assert all(torch.equal(a, b) for a, b in zip(predict(plain), predict(adapter), strict=True))

    weights = without_zero_scales(write_weights(family, tmp_path / "weights"), classes_of(family))
    tiny_config["model"] = {"plugin": plugin, "arch": arch, "weights": weights}
    tiny_config["data"]["batch"]["labelled"] = 6
    if task_of(family) != "detect":
        outline(tiny_config["data"], tmp_path)
    tiny_config["train"] = {"epochs": 1, "lr": 1e-2, "device": "cpu", "verify": "every_step", "precision": "fp32"}
    log = {"log": {"progress": "none", "tensorboard": "off", "every": 1}}
    tiny_config["hooks"] = [{"lora": {"rank": 4, "alpha": 8.0}}, "ema", log]
    run = tlvision.train(tiny_config).run
    start, best = load_file(weights), load_file(str(run / "checkpoints" / "best" / "model.safetensors"))
    ups = [name for name in best if name.endswith("lora_up")]
    assert len(ups) > 10
    for name in ups:
        base = f"{name.removesuffix('lora_up')}weight"
        assert torch.equal(best[base], start[base])
    moved = [name for name in ups if best[name].any()]  # not all: a level without objects has no gradient
    assert len(moved) > 0.8 * len(ups), set(ups) - set(moved)

    merge_run(run, tmp_path / "merged.safetensors")
    assert load_file(str(tmp_path / "merged.safetensors")).keys() == start.keys()
    spec = BuildSpec(arch=arch, weights=str(tmp_path / "merged.safetensors"), classes=classes_of(family), image_size=96)
    merged, report = get_plugin(plugin).build(spec)
    assert (report.missing, report.unused, report.mismatched, report.remapped) == ((), (), (), ())
    trained = tlvision.load(run).adapter
    for one, other in zip(predict(merged), predict(trained), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
