from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from tlvision.hooks import Duration, ParameterPlan, Plan, SetupHook, initial_plan
from tlvision.hooks.setup.freeze import Freeze
from tlvision.hooks.setup.gradual_unfreeze import GradualUnfreeze
from tlvision.hooks.setup.layerwise_lr import LayerwiseLr
from tlvision.hooks.setup.lr_groups import LrGroups, Rate
from tlvision.plugin import LayerGroup, map_groups
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.types import InputError


def starts(plan: Plan) -> dict[str, int | None]:
    """The step at which each group is freed; every parameter of a group has the same."""
    found: dict[str, set[int | None]] = {}
    for row in plan.parameters.values():
        found.setdefault(plan.groups.names()[row.depth], set()).add(row.trainable_from)
    assert all(len(steps) == 1 for steps in found.values())
    return {name: steps.pop() for name, steps in found.items()}


def test_every_two_epochs_from_the_head_to_the_stem(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    plan = GradualUnfreeze(every=2).setup(plan_of(model))
    assert starts(plan) == {"head": 0, "neck": 20, "backbone.stage2": 40, "backbone.stage1": 60, "stem": 80}
    assert plan.boundaries() == (0, 20, 40, 60, 80)
    assert {row.rewarm for row in plan.parameters.values()} == {0}


def test_by_role_at_fractions_with_a_re_warm(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    plan = GradualUnfreeze(at=[0.1, 0.25, 0.555], by="role", rewarm=0.5).setup(plan_of(model))
    assert starts(plan) == {"head": 0, "neck": 10, "backbone.stage2": 25, "backbone.stage1": 25, "stem": 56}
    assert {name: row.rewarm for name, row in plan.parameters.items() if name in ("head.weight", "stem.0.weight")} == {
        "head.weight": 0,
        "stem.0.weight": 5,
    }


def test_down_to_leaves_the_rest_frozen(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    plan = GradualUnfreeze(every=4, down_to="backbone.stage2").setup(plan_of(model))
    assert starts(plan) == {"head": 0, "neck": 40, "backbone.stage2": 80, "backbone.stage1": None, "stem": None}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "expected one of 'every' .* and 'at'"),
        ({"every": 1, "at": [0.5]}, "expected one of 'every' .* and 'at'"),
        (
            {"every": 3},
            r"too few to free 4 units every 3 epochs: stem would never .* more than 12 epochs",
        ),
        ({"at": [0.5]}, r"expected 4 fractions in 'at', one for each of neck, backbone.stage2, backbone.stage1, stem"),
        ({"at": [0.1, 0.5, 0.3, 0.6]}, r"fall on the steps \[10, 50, 30, 60\] of 100; expected ascending"),
        ({"at": [0.1, 0.101, 0.3, 0.6]}, r"fall on the steps \[10, 10, 30, 60\]"),
        ({"at": [0.001, 0.2, 0.3, 0.6]}, r"fall on the steps \[0, 20, 30, 60\]"),
        ({"every": 1, "down_to": "backbone.stge1"}, r"no unit 'backbone.stge1' to go down to. Did you mean 'backbone"),
        ({"every": 1, "by": "role", "down_to": "stage1"}, r"no unit 'stage1' to go down to"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_what_to_do(
    model: nn.Module, plan_of: Callable[..., Plan], options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        GradualUnfreeze(**options).setup(plan_of(model))


def test_the_order_of_setup_hooks_does_not_matter(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    hooks: list[SetupHook] = [
        GradualUnfreeze(every=2, rewarm=1),
        Freeze(through="backbone.stage1"),
        LayerwiseLr(decay=0.5),
        LrGroups(roles={"neck": Rate(lr=0.3, weight_decay=0.2)}),
    ]
    plans = []
    for order in (hooks, hooks[::-1], hooks[2:] + hooks[:2]):
        plan = plan_of(model)
        for hook in order:
            plan = hook.setup(plan)
        plans.append({name: replace(row, reasons=()) for name, row in plan.parameters.items()})
    assert plans[0] == plans[1] == plans[2]
    assert plans[0]["stem.0.weight"].trainable_from is None
    assert plans[0]["stage2.0.weight"].trainable_from == 40
    expected = ParameterPlan(depth=3, trainable_from=20, rewarm=10, lr=0.3, lr_scale=0.5, weight_decay=0.2)
    assert plans[0]["neck.0.weight"] == expected


def test_a_model_that_is_all_head_has_nothing_to_free() -> None:
    head = nn.Linear(2, 2)
    groups = map_groups(head, (LayerGroup("head", "head", ("",)),))
    with pytest.raises(InputError, match="nothing but a head, so there is nothing to unfreeze"):
        GradualUnfreeze(every=1).setup(initial_plan(head, groups, Duration(epochs=4, steps_per_epoch=1)))


@pytest.mark.parametrize("order", [1, -1])
def test_a_frozen_head_leaves_nothing_to_begin_with(model: nn.Module, plan_of: Callable[..., Plan], order: int) -> None:
    plan = plan_of(model)
    hooks: list[SetupHook] = [Freeze(roles=["head"]), GradualUnfreeze(every=2)]
    for hook in hooks[::order]:
        plan = hook.setup(plan)
    with pytest.raises(InputError, match=r"nothing is trained before step 20.*leave the head"):
        build_optimizer(model, plan, TrainSettings(epochs=10), {})
