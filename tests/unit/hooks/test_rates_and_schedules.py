"""lr_groups, linear_probe, warm_restart, cyclic_lr; the schedules next to torch's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tlvision.config.load import load_config
from tlvision.hooks import Duration, Plan, SetupHook, initial_plan
from tlvision.hooks.setup.cyclic_lr import CyclicLr
from tlvision.hooks.setup.linear_probe import LinearProbe
from tlvision.hooks.setup.lr_groups import LrGroups, Rate
from tlvision.hooks.setup.warm_restart import WarmRestart
from tlvision.plugin import LayerGroup, Role, map_groups
from tlvision.training.optim import build_optimizer, schedule_factor, set_learning_rates
from tlvision.training.settings import TrainSettings
from tlvision.types import InputError


def test_a_group_overrides_its_role_and_the_optimizer_has_the_written_rate(
    model: nn.Module, plan_of: Callable[..., Plan]
) -> None:
    hook = LrGroups(
        roles={"backbone": Rate(lr=0.01, weight_decay=0.2), "stem": Rate(weight_decay=0.0)},
        groups={"backbone.stage2": Rate(lr=0.03)},
    )
    settings = TrainSettings(epochs=1, lr=0.5, weight_decay=0.1)
    optimizer = build_optimizer(model, hook.setup(plan_of(model)), settings, {})
    set_learning_rates(optimizer, 1.0, 0)
    held = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    found = {name: held[id(p)] for name, p in model.named_parameters()}
    rates = {name.rpartition(".")[0]: (group["lr"], group["weight_decay"]) for name, group in found.items()}
    assert rates["stem.0"][0] == 0.5
    assert found["stem.0.weight"]["weight_decay"] == 0.0
    assert (found["stage1.0.weight"]["lr"], found["stage1.0.weight"]["weight_decay"]) == (0.01, 0.2)
    assert (found["stage2.0.weight"]["lr"], found["stage2.0.weight"]["weight_decay"]) == (0.03, 0.2)
    assert found["stage1.0.bias"]["weight_decay"] == found["stage1.1.weight"]["weight_decay"] == 0.0
    assert (found["head.weight"]["lr"], found["head.weight"]["weight_decay"]) == (0.5, 0.1)


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (LrGroups(roles={"hed": Rate(lr=1)}), "no layer group has the role 'hed'. Did you mean 'head'"),
        (LrGroups(groups={"nek": Rate(lr=1)}), "no layer group 'nek'. Did you mean 'neck'"),
    ],
)
def test_an_unknown_name_is_an_error(
    model: nn.Module, plan_of: Callable[..., Plan], hook: LrGroups, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        hook.setup(plan_of(model))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{roles: {head: {}}}", "expected lr, weight_decay or both"),
        ("{roles: {head: {lr: -1}}}", "greater than 0"),
        ("{roles: {head: {lrr: 1}}}", r"lr_groups\.roles\.head\.lrr: unknown key\. Did you mean 'lr'"),
        ("{groups: {head: {weight_decy: 1}}}", r"Did you mean 'weight_decay'"),
        ("{roles: {head: {lr: .inf}}}", "finite"),
        ("{roles: {head: 0.1}}", r"lr_groups\.roles\.head: input should be a valid dictionary"),
    ],
)
def test_a_wrong_rate_in_a_config_is_an_error_that_names_it(
    tiny_config: dict[str, object], options: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        load_config(tiny_config, [f"hooks=[{{lr_groups: {options}}}]"])


def test_linear_probe_trains_the_head_alone(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    assert LinearProbe().setup(plan_of(model)).trained() == ("head.weight", "head.bias")


@pytest.mark.parametrize(
    ("role", "expected"), [("head", "nothing but a head"), ("neck", "no layer group has the role 'head'")]
)
def test_linear_probe_needs_a_head_and_something_else(role: Role, expected: str) -> None:
    module = nn.Linear(2, 2)
    groups = map_groups(module, (LayerGroup("all", role, ("",)),))
    with pytest.raises(InputError, match=expected):
        LinearProbe().setup(initial_plan(module, groups, Duration(epochs=1, steps_per_epoch=1)))


def factors(plan: Plan, warmup: float = 0.0) -> list[float]:
    settings = TrainSettings(epochs=10, warmup=warmup)
    return [schedule_factor(step, plan, settings) for step in range(plan.duration.total_steps)]


def test_warm_restarts_are_torchs(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    plan = WarmRestart(cycles=2, growth=3, minimum=0.1).setup(plan_of(model))  # 25 steps, then 75
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=25, T_mult=3, eta_min=0.1)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(plan) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("policy", ["triangular", "triangular2"])
def test_triangles_are_torchs(model: nn.Module, plan_of: Callable[..., Plan], policy: str) -> None:
    plan = CyclicLr(cycles=5, minimum=0.2, policy=policy).setup(plan_of(model))  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.2, max_lr=1.0, step_size_up=10, mode=policy, cycle_momentum=False
    )
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(plan) == pytest.approx(expected, abs=1e-9)


def test_the_shape_comes_after_the_warm_up(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    plan = WarmRestart(cycles=3).setup(plan_of(model))
    values = factors(plan, warmup=0.1)
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert [step for step in range(10, 100) if values[step] == 1.0] == [10, 40, 70]


def test_two_schedules_are_an_error(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(InputError, match=r"two hooks set the schedule, CosineCycles\(cycles=3.*Triangles"):
        CyclicLr().setup(WarmRestart().setup(plan_of(model)))


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (
            WarmRestart(cycles=101),
            r"101 cycles with growth 1 do not fit into 100 steps, those after train.warmup: the first would take 0\.99",
        ),
        (WarmRestart(cycles=9, growth=2), "9 cycles with growth 2 do not fit"),
        (WarmRestart(cycles=2000, growth=10), "2000 cycles with growth 10 do not fit"),
        (CyclicLr(cycles=51), "51 cycles do not fit into 100 steps"),
    ],
)
def test_cycles_that_do_not_fit_are_an_error(
    model: nn.Module, plan_of: Callable[..., Plan], hook: SetupHook, expected: str
) -> None:
    plan, settings = hook.setup(plan_of(model)), TrainSettings(epochs=10, warmup=0.0)
    with pytest.raises(InputError, match=expected):
        build_optimizer(model, plan, settings, {})


@pytest.mark.parametrize(("hook", "fits"), [(WarmRestart, 50), (CyclicLr, 25)])
def test_cycles_have_to_fit_into_what_the_warm_up_leaves(
    model: nn.Module, plan_of: Callable[..., Plan], hook: Callable[..., SetupHook], fits: int
) -> None:
    settings = TrainSettings(epochs=10, warmup=0.5)
    build_optimizer(model, hook(cycles=fits).setup(plan_of(model)), settings, {})
    with pytest.raises(InputError, match=f"{fits + 1} cycles .*do not fit into 50 steps"):
        build_optimizer(model, hook(cycles=fits + 1).setup(plan_of(model)), settings, {})


def test_the_most_cycles_that_fit_are_accepted(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    assert factors(WarmRestart(cycles=100).setup(plan_of(model))) == [1.0] * 100
    assert factors(CyclicLr(cycles=50, minimum=0.5).setup(plan_of(model))) == pytest.approx([0.5, 1.0] * 50)
