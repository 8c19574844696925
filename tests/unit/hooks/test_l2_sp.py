from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tlvision
from tlvision.hooks.objectives.l2_sp import L2Sp
from tlvision.plugin import WeightReport
from tlvision.training.checkpoint import load_tensors, save_tensors
from tlvision.types import InputError


def make_context(model: nn.Module, loaded: tuple[str, ...]) -> Any:
    names = [name for name, _ in model.named_parameters()]
    report = WeightReport(source="file", loaded=loaded, missing=tuple(n for n in names if n not in loaded))
    return SimpleNamespace(adapter=SimpleNamespace(module=model), weights=report)


def test_losses_and_gradients_are_those_of_the_equation(model: Any) -> None:
    context = make_context(model, ("stage1.0.weight", "stage2.0.weight", "stage2.0.bias", "stem.0.weight"))
    model.stem[0].weight.requires_grad_(False)
    hook = L2Sp(alpha=0.3, beta=0.7)
    hook.before_fit(context)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    losses = hook.losses(context)
    named = dict(model.named_parameters())
    moved = sum(((named[name] - start[name]) ** 2).sum().item() for name in ("stage1.0.weight", "stage2.0.weight"))
    new = sum((p**2).sum().item() for n, p in model.named_parameters() if n in ("neck.0.weight", "head.weight"))
    assert losses["distance"].item() == pytest.approx(0.5 * 0.3 * moved, rel=1e-5)
    assert losses["new"].item() == pytest.approx(0.5 * 0.7 * new, rel=1e-5)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(model.stage1[0].weight.grad, 0.3 * (model.stage1[0].weight - start["stage1.0.weight"]))
    torch.testing.assert_close(model.head.weight.grad, 0.7 * model.head.weight)
    assert model.stem[0].weight.grad is None, "frozen"
    assert model.stage2[0].bias.grad is None, "a vector"


def test_the_start_survives_a_save_and_is_not_taken_again(model: Any, tmp_path: Path) -> None:
    context = make_context(model, ("stage1.0.weight",))
    hook = L2Sp()
    hook.before_fit(context)
    start = model.stage1[0].weight.detach().clone()
    with torch.no_grad():
        model.stage1[0].weight += 1
    save_tensors(tmp_path / "state.safetensors", hook.state_dict())
    resumed = L2Sp()
    resumed.load_state_dict(load_tensors(tmp_path / "state.safetensors"))
    resumed.before_fit(make_context(model, tuple(name for name, _ in model.named_parameters())))
    assert resumed.state_dict().keys() == {"stage1.0.weight"}
    assert torch.equal(resumed.state_dict()["stage1.0.weight"], start)
    assert torch.equal(resumed.losses(context)["distance"], hook.losses(context)["distance"])


def test_nothing_pretrained_is_an_error(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].append("l2_sp")
    with pytest.raises(InputError, match="l2_sp: nothing was pretrained"):
        tlvision.train(tiny_config)


@pytest.mark.slow
def test_a_run_stays_nearer_to_where_it_began(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    first = tlvision.train(tiny_config).run / "checkpoints" / "last" / "model.safetensors"
    start = load_file(str(first))
    distances = []
    for alpha in (0.0, 100.0):
        config = {
            **tiny_config,
            "model": {**tiny_config["model"], "weights": str(first)},
            "hooks": [*tiny_config["hooks"], {"l2_sp": {"alpha": alpha, "beta": 0.0}}],
            "train": {**tiny_config["train"], "epochs": 4, "optimizer": "sgd", "weight_decay": 0.0, "lr": 1e-2},
            "run": {"out": str(tmp_path / f"alpha{alpha}")},
        }
        end = load_file(str(tlvision.train(config).run / "checkpoints" / "last" / "model.safetensors"))
        weights = [name for name, tensor in end.items() if tensor.ndim > 1]
        assert len(weights) > 10
        distances.append(sum(float((end[name] - start[name]).square().sum()) for name in weights))
    assert 0 < distances[1] < 0.5 * distances[0]
