"""Each of the five facts, broken once: the run stops with the name of the layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tlvision
from tlvision.engine import train as runs
from tlvision.hooks import Context, Duration, ObserverHook, Plan, initial_plan
from tlvision.plugin import LayerGroup, map_groups
from tlvision.training.modes import Modes
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.training.verify import FrozenProof, Verifier
from tlvision.types import RunError


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.inside: Callable[[Stage], None] = lambda stage: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inside(self)
        out: torch.Tensor = self.drop(self.norm(self.linear(x)))
        return out


def make(step_of_stage: int | None = None) -> tuple[nn.Sequential, Plan, torch.optim.Optimizer]:
    """Three stages; the first is frozen for good, the second until `step_of_stage`."""
    torch.manual_seed(0)
    model = nn.Sequential(Stage(), Stage(), Stage())
    groups = (
        LayerGroup("stem", "stem", ("0",)),
        LayerGroup("backbone.stage1", "backbone", ("1",)),
        LayerGroup("head", "head", ("2",)),
    )
    plan = initial_plan(model, map_groups(model, groups), Duration(1, 10))
    plan = plan.train_from(plan.in_groups([0]), None, "test").train_from(plan.in_groups([1]), step_of_stage, "test")
    settings = TrainSettings(epochs=1, optimizer="sgd", lr=0.1, weight_decay=0.1)
    return model, plan, build_optimizer(model, plan, settings, {})


def run_steps(model: nn.Module, plan: Plan, optimizer: torch.optim.Optimizer, breach: Callable[[], Any]) -> None:
    Modes(model, plan, 0).apply()
    proof = FrozenProof(model, plan, optimizer, 0)
    with proof.watching():
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    breach()
    proof.check()


@pytest.mark.parametrize("step_of_stage", [None, 0, 5])
def test_an_honest_freeze_passes(step_of_stage: int | None) -> None:
    model, plan, optimizer = make(step_of_stage)
    proof = FrozenProof(model, plan, optimizer, 0)
    stages = (0,) if step_of_stage == 0 else (0, 1)
    assert set(proof.frozen) == {name for name in model.state_dict() if int(name[0]) in stages}
    assert len(proof.frozen) == 7 * len(stages)
    run_steps(model, plan, optimizer, lambda: None)


def test_an_activation_that_trained_groups_share_may_build_a_graph() -> None:
    model, plan, optimizer = make(0)
    model[2].drop = model[0].drop  # type: ignore[union-attr]
    plan = initial_plan(model, map_groups(model, plan.groups.groups), plan.duration)
    plan = plan.train_from(plan.in_groups([0]), None, "test")
    run_steps(model, plan, optimizer, lambda: None)


def nudge(tensor: torch.Tensor) -> None:
    """The smallest change there is."""
    with torch.no_grad():
        first = (0,) * tensor.ndim
        tensor[first] = torch.nextafter(tensor[first], torch.tensor(9.0))


BREACHES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "parameter": (lambda m, o: nudge(m[0].linear.weight), r"'0.linear.weight' of layer group 'stem' .* has moved"),
    "buffer": (lambda m, o: nudge(m[0].norm.running_mean), r"'0.norm.running_mean' of layer group 'stem'.* has moved"),
    "counter": (lambda m, o: m[1].norm.num_batches_tracked.add_(1), r"'1.norm.num_batches_tracked' .* has moved"),
    "gradient": (lambda m, o: m[0].linear.bias.requires_grad_(True), r"'0.linear.bias' .* requires a gradient"),
    "leftover": (
        lambda m, o: setattr(m[1].linear.bias, "grad", torch.ones(4)),
        r"'1.linear.bias' .* has a gradient",
    ),
    "mode": (lambda m, o: m[0].drop.train(), r"'0.drop' of layer group 'stem' is frozen but is in train mode"),
    "optimizer": (
        lambda m, o: o.add_param_group({"params": [m[0].linear.weight]}),
        r"'0.linear.weight' .* is in the optimizer",
    ),
    "momentum": (
        lambda m, o: o.state[m[1].linear.weight].update(momentum_buffer=torch.zeros(4, 4)),
        r"'1.linear.weight' .* has a state in the optimizer",
    ),
    "twice": (
        lambda m, o: o.param_groups.append({**o.param_groups[-1], "params": [m[2].linear.weight]}),
        r"'2.linear.weight' of layer group 'head' is in 2 optimizer groups",
    ),
    "forgotten": (lambda m, o: o.param_groups.pop(), r"of layer group 'head' is in 0 optimizer groups"),
    "not trained": (
        lambda m, o: m[2].linear.weight.requires_grad_(False),
        r"'2.linear.weight' .* is to be trained but requires no gradient",
    ),
    "replaced": (
        lambda m, o: setattr(m[2].linear, "weight", nn.Parameter(torch.ones(4, 4))),
        r"'2.linear.weight' .* the model has replaced it",
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_broken_fact_stops_with_the_name_of_the_layer(name: str) -> None:
    model, plan, optimizer = make(step_of_stage=5)
    breach, expected = BREACHES[name]
    with pytest.raises(RunError, match=expected):
        run_steps(model, plan, optimizer, lambda: breach(model, optimizer))


INSIDE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mode": (lambda stage: stage.norm.train(), r"'0.norm' of layer group 'stem' is frozen but runs in train mode"),
    "graph": (lambda stage: stage.linear.weight.requires_grad_(True), r"'0.linear' .* builds a graph"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_what_happens_inside_the_forward_pass_is_seen(name: str) -> None:
    model, plan, optimizer = make()
    model[0].inside, expected = INSIDE[name]  # type: ignore[union-attr]
    with pytest.raises(RunError, match=expected):
        run_steps(model, plan, optimizer, lambda: None)


def test_the_averaged_copy_is_proved_as_well() -> None:
    model, plan, optimizer = make()
    Modes(model, plan, 0).apply()
    proof = FrozenProof(model, plan, optimizer, 0)
    averaged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    proof.check(averaged)
    averaged["2.linear.weight"] += 1  # trained: may differ
    proof.check(averaged)
    nudge(averaged["0.linear.weight"])
    with pytest.raises(RunError, match=r"'0.linear.weight' .* differs in the averaged copy"):
        proof.check(averaged)


def test_the_verifier_watches_the_first_steps_of_each_phase_or_all_or_none() -> None:
    caught: dict[str, list[int]] = {}
    for mode in ("first_steps", "every_step", "off"):
        caught[mode] = []
        for bad in range(10):
            model, plan, optimizer = make(step_of_stage=5)
            verifier = Verifier(model, plan, optimizer, mode, lambda: None)
            try:
                for step in range(10):
                    with verifier.watch(step):
                        if step == bad:
                            nudge(model[0].linear.weight)  # type: ignore[union-attr,arg-type]
            except RunError:
                caught[mode].append(bad)
    assert caught == {"first_steps": [0, 1, 2, 5, 6, 7], "every_step": list(range(10)), "off": []}


class Meddle(ObserverHook):
    """Move a frozen weight in a given step, as a careless hook would."""

    def __init__(self, *, step: int) -> None:
        self.step = step

    def after_step(self, context: Context) -> None:
        if context.step == self.step:
            nudge(context.adapter.module.get_parameter("backbone.stem.0.weight"))


@pytest.mark.parametrize(
    ("step", "mode", "stops"), [(2, "first_steps", True), (5, "every_step", True), (5, "off", False)]
)
def test_a_run_stops_where_a_hook_moves_a_frozen_layer(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: int, mode: str, stops: bool
) -> None:
    build = runs.build_run

    def meddled(config: Any, **options: Any) -> Any:
        parts = build(config, **options)
        parts.hooks.append(Meddle(step=step))
        return parts

    monkeypatch.setattr(runs, "build_run", meddled)
    tiny_config["hooks"].append({"freeze": {"through": "stem"}})
    tiny_config["train"]["verify"] = mode
    if stops:
        with pytest.raises(RunError, match=r"'backbone.stem.0.weight' of layer group 'stem' is frozen but has moved"):
            tlvision.train(tiny_config)
    else:
        tlvision.train(tiny_config)


class CallTrain(ObserverHook):
    """Do what PITFALLS 1 warns of: put the whole model into train mode, and unfreeze it, between the steps."""

    def before_step(self, context: Context) -> None:
        context.adapter.module.train()
        context.adapter.module.requires_grad_(True)


def test_a_frozen_group_stays_as_it_was_whoever_calls_train(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = runs.build_run
    before: dict[str, torch.Tensor] = {}

    def meddled(config: Any, **options: Any) -> Any:
        parts = build(config, **options)
        parts.hooks.append(CallTrain())
        before.update({name: tensor.clone() for name, tensor in parts.adapter.module.state_dict().items()})
        return parts

    monkeypatch.setattr(runs, "build_run", meddled)
    tiny_config["hooks"].append({"freeze": {"roles": ["stem", "backbone"]}})
    tiny_config["train"]["verify"] = "every_step"
    run = tlvision.train(tiny_config).run
    from safetensors.torch import load_file

    after = load_file(str(run / "checkpoints" / "last" / "model.safetensors"))
    frozen = [name for name in before if name.startswith("backbone.")]
    assert len(frozen) > 20
    assert [name for name in frozen if not torch.equal(before[name], after[name])] == []
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() - set(frozen))
    assert json.loads(Path(run / "checkpoints" / "last" / "state.json").read_text())["step"] == 6
