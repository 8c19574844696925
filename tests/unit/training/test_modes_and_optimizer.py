from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from tlvision.hooks import Duration, Plan, initial_plan
from tlvision.hooks.setup.freeze import Freeze
from tlvision.hooks.setup.layerwise_lr import LayerwiseLr
from tlvision.plugin import LayerGroup, map_groups
from tlvision.training.ledger import check_ledger, ledger_rows, schedule_row, write_ledger
from tlvision.training.modes import set_modes
from tlvision.training.optim import build_optimizer, schedule_factor, set_learning_rates
from tlvision.training.settings import TrainSettings
from tlvision.types import InputError


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norms = nn.ModuleList(
            [nn.BatchNorm1d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4, affine=False)]
        )
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        for norm in self.norms:
            x = norm(x)
        return self.drop(x)


class Head(nn.Module):
    """Like a detection head: a container without tensors of its own whose output depends on its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.cat([branch(x) for branch in self.branches], 1)
        return out if self.training else out.softmax(1)


def make(settings: TrainSettings | None = None) -> tuple[nn.Module, Plan]:
    torch.manual_seed(0)
    model = nn.Sequential(Stage(), Stage(), Head())
    groups = (
        LayerGroup("stem", "stem", ("0",)),
        LayerGroup("backbone.stage1", "backbone", ("1",)),
        LayerGroup("head", "head", ("2",)),
    )
    return model, initial_plan(model, map_groups(model, groups), Duration(1, 10))


class WithToken(nn.Module):
    """A model that owns a parameter itself and, like DETR, asks for its own mode to tell a loss from a prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)


def test_a_model_whose_own_parameter_is_frozen_stays_in_train_mode() -> None:
    model = WithToken()
    groups = (LayerGroup("stem", "stem", ("token", "body")), LayerGroup("head", "head", ("head",)))
    plan = Freeze(groups=["stem"]).setup(initial_plan(model, map_groups(model, groups), Duration(1, 10)))
    set_modes(model, plan, 0)
    assert model.training
    assert not model.token.requires_grad
    assert not model.body.training
    assert model.head.training


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
def test_a_frozen_group_stays_bit_equal_after_three_steps(optimizer_name: str) -> None:
    settings = TrainSettings(epochs=1, optimizer=optimizer_name, lr=0.1, weight_decay=0.1)
    model, plan = make()
    plan = Freeze(through="stem").setup(plan)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = build_optimizer(model, plan, settings, {})
    set_modes(model, plan, 0)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved, "nothing moved at all"
    assert not {name for name in moved if name.startswith("0.")}
    assert all(any(name.startswith(f"{i}.") for name in moved) for i in (1, 2))


def test_modes_of_every_kind_of_module_and_no_graph_on_a_frozen_prefix() -> None:
    model, plan = make()
    plan = Freeze(through="stem").setup(plan)
    set_modes(model, plan, 0)
    kinds = list(model[0].modules())  # type: ignore[union-attr]
    assert len(kinds) >= 8
    assert not any(module.training for module in kinds)
    assert all(module.training for module in model[1].modules())  # type: ignore[union-attr]
    assert model[0](torch.randn(4, 4)).grad_fn is None  # type: ignore[operator]


def test_a_dropout_that_two_groups_share_is_silent_only_where_both_are_frozen() -> None:
    model, plan = make()
    model[1].drop = model[0].drop  # type: ignore[union-attr]
    plan = initial_plan(model, map_groups(model, plan.groups.groups), plan.duration)
    set_modes(model, Freeze(through="stem").setup(plan), 0)
    assert model[1].drop.training  # type: ignore[union-attr]
    set_modes(model, Freeze(through="backbone.stage1").setup(plan), 0)
    assert not model[1].drop.training  # type: ignore[union-attr]


def test_a_frozen_head_still_answers_in_train_mode() -> None:
    model, plan = make()
    plan = Freeze(roles=["head"]).setup(plan)
    set_modes(model, plan, 0)
    head = model[2]
    assert head.training  # type: ignore[union-attr]
    assert not any(branch.training for branch in head.branches)  # type: ignore[union-attr]


def test_freezing_one_parameter_of_a_layer_leaves_its_mode() -> None:
    model, plan = make()
    plan = Freeze(parameters=["0.norms.0.weight"]).setup(plan)
    set_modes(model, plan, 0)
    assert model[0].norms[0].training  # type: ignore[union-attr,index]
    plan = Freeze(parameters=["0.norms.0.*"]).setup(plan)
    set_modes(model, plan, 0)
    assert not model[0].norms[0].training  # type: ignore[union-attr,index]


def test_a_group_is_freed_at_its_step_and_its_stale_gradient_is_gone_when_frozen() -> None:
    model, plan = make()
    plan = plan.train_from(plan.in_groups([0]), 4, "later")
    for step, expected in ((0, False), (3, False), (4, True), (9, True)):
        set_modes(model, plan, step)
        assert model[0].linear.weight.requires_grad is expected  # type: ignore[union-attr]
        assert model[0].drop.training is expected  # type: ignore[union-attr]
    model[0].linear.weight.grad = torch.ones(4, 4)  # type: ignore[union-attr]
    set_modes(model, plan, 0)
    assert model[0].linear.weight.grad is None  # type: ignore[union-attr]


def test_every_trained_parameter_is_in_the_optimizer_once_and_by_identity() -> None:
    model, plan = make()
    plan = LayerwiseLr(decay=0.5).setup(Freeze(through="stem").setup(plan))
    optimizer = build_optimizer(model, plan, TrainSettings(epochs=1, lr=0.1, weight_decay=0.01), {})
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for name, p in model.named_parameters() if not name.startswith("0.")}
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
    peaks = {group["name"].split("/")[0]: group["peak_lr"] for group in optimizer.param_groups}
    assert peaks == {"backbone.stage1": 0.05, "head": 0.1}


def test_each_group_keeps_its_own_rate_through_the_schedule() -> None:
    model, plan = make()
    plan = LayerwiseLr(decay=0.5).setup(plan)
    optimizer = build_optimizer(model, plan, TrainSettings(epochs=1, lr=0.1), {})
    set_learning_rates(optimizer, 0.3, 0)
    rates = {group["name"].split("/")[0]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"stem": 0.0075, "backbone.stage1": 0.015, "head": 0.03})


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_schedule_warms_up_to_the_peak_and_ends_where_it_should(schedule: str) -> None:
    settings = TrainSettings(epochs=1, schedule=schedule, warmup=0.1, final_lr=0.05)
    _, plan = make()
    plan = replace(plan, duration=Duration(10, 10))
    factors = [schedule_factor(step, plan, settings) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(factors) == 1.0
    middle = 0.05 + 0.95 * 0.5
    if schedule == "constant":
        assert set(factors[10:]) == {1.0}
    else:
        assert factors[10] == 1.0
        assert factors[55] == pytest.approx(middle)
        assert factors[99] == pytest.approx(0.05, abs=0.02)
        assert all(a > b for a, b in pairwise(factors[10:]))
    assert not any(math.isnan(factor) for factor in factors)


def test_the_schedule_in_steps_is_that_of_detectron() -> None:
    settings = TrainSettings(epochs=12, schedule="step", warmup=0.05)
    plan = replace(make()[1], duration=Duration(10, 12))
    factors = [schedule_factor(step, plan, settings) for step in range(120)]
    assert factors[5:80] == pytest.approx([*[(i + 1) / 6 for i in range(5, 6)], *[1.0] * 74])
    assert factors[80:110] == pytest.approx([0.1] * 30)
    assert factors[110:] == pytest.approx([0.01] * 10)


def test_the_ledger_has_every_parameter_once_and_a_changed_config_says_which_rows_differ(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, plan = make()
    settings = TrainSettings(epochs=1, lr=0.1)
    rows = ledger_rows(model, plan, settings, {})
    assert [row["parameter"] for row in rows] == [name for name, _ in model.named_parameters()]
    schedule = schedule_row(plan, settings)
    write_ledger(tmp_path / "ledger.json", rows, schedule)
    assert check_ledger(tmp_path / "ledger.json", rows, schedule) is None
    longer = schedule_row(replace(plan, duration=Duration(9, 10)), settings)
    assert "'steps': 10} and continues with" in str(check_ledger(tmp_path / "ledger.json", rows, longer))
    changed = ledger_rows(model, Freeze(through="stem").setup(plan), settings, {})
    with pytest.raises(InputError, match=r"differs from the run's in 8 rows \(0\.linear\.bias"):
        check_ledger(tmp_path / "ledger.json", changed, schedule)
    for name in (None, ["a"]):
        write_ledger(tmp_path / "ledger.json", [rows[0] | {"parameter": name}, *rows[1:]], schedule)
        with pytest.raises(InputError, match="is damaged: it has no rows of parameters"):
            check_ledger(tmp_path / "ledger.json", rows, schedule)
    for damaged in (None, 10**400, "x", [1]):
        write_ledger(tmp_path / "ledger.json", [rows[0] | {"lr": damaged}, *rows[1:]], schedule)
        expected = rf"differs from the run's in 1 row .* the run has lr {re.escape(str(damaged)[:3])}"
        with pytest.raises(InputError, match=expected):
            check_ledger(tmp_path / "ledger.json", rows, schedule)


def test_a_freed_group_enters_at_the_scheduled_rate_or_rises_to_it() -> None:
    model, plan = make()
    plan = plan.train_from(plan.in_groups([0]), 4, "at once").train_from(plan.in_groups([1]), 4, "slowly", rewarm=4)
    optimizer = build_optimizer(model, plan, TrainSettings(epochs=1, lr=0.1), {})
    for step, risen in ((3, 0.0), (4, 0.25), (5, 0.5), (7, 1.0), (9, 1.0)):
        set_learning_rates(optimizer, 0.5, step)
        rates = {group["name"].split("/")[0]: group["lr"] for group in optimizer.param_groups}
        assert rates == pytest.approx({"stem": 0.05, "backbone.stage1": 0.05 * risen, "head": 0.05})


def test_a_parameter_may_have_a_rate_of_its_own() -> None:
    model, plan = make()
    plan = plan.set_lr(plan.in_groups([1]), 0.4, "own").scale_lr(plan.in_groups([0, 1]), 0.5, "scaled")
    optimizer = build_optimizer(model, plan, TrainSettings(epochs=1, lr=0.1), {})
    set_learning_rates(optimizer, 1.0, 0)
    rates = {group["name"].split("/")[0]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"stem": 0.05, "backbone.stage1": 0.2, "head": 0.1})
    decayed = plan.set_weight_decay(["2.branches.0.weight", "2.branches.0.bias"], 0.3, "own")
    groups = build_optimizer(model, decayed, TrainSettings(epochs=1), {}).param_groups
    (own,) = [group for group in groups if group["weight_decay"] == 0.3]
    assert len(own["params"]) == 1, "a bias stays without"
    assert own["params"][0] is model.get_parameter("2.branches.0.weight")


def test_freezing_hooks_can_only_freeze_for_longer_whatever_their_order() -> None:
    _, plan = make()
    names = plan.in_groups([0])
    for steps in ((None, 4), (4, None), (2, None, 9)):
        changed = plan
        for step in steps:
            changed = changed.train_from(names, step, "test")
        assert {changed.parameters[name].trainable_from for name in names} == {None}
    later = plan.train_from(names, 9, "test").train_from(names, 4, "test")
    assert {later.parameters[name].trainable_from for name in names} == {9}
