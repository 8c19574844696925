"""`freeze: {what: …}`: norms, everything else, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import nn

from tlvision.config.load import load_config
from tlvision.hooks import Plan
from tlvision.hooks.setup.freeze import Freeze
from tlvision.training.modes import set_modes
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.types import InputError

NORMS = {"stem": "stem.1.", "backbone.stage1": "stage1.1.", "backbone.stage2": "stage2.1."}
REST = {"stem": "stem.0.", "backbone.stage1": "stage1.0.", "backbone.stage2": "stage2.0."}


def moved_after_three_steps(model: nn.Module, plan: Plan) -> set[str]:
    """The names of parameters and buffers that three steps with momentum and decay change."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = TrainSettings(epochs=1, optimizer="sgd", lr=0.1, weight_decay=0.1)
    optimizer = build_optimizer(model, plan, settings, {})
    for step in range(3):
        set_modes(model, plan, step)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}


@pytest.mark.parametrize(
    ("what", "still"), [("both", {**NORMS, **REST}), ("norms", NORMS), ("parameters", REST)], ids=str
)
def test_what_is_chosen_stays_bit_equal_and_the_rest_moves(
    model: nn.Module, plan_of: Callable[..., Plan], what: Literal["both", "norms", "parameters"], still: dict[str, str]
) -> None:
    plan = Freeze(through="backbone.stage2", what=what).setup(plan_of(model))
    prefixes = tuple(NORMS.values()) + tuple(REST.values()) if what == "both" else tuple(still.values())
    moved = moved_after_three_steps(model, plan)
    names = set(model.state_dict())
    frozen = {name for name in names if name.startswith(prefixes)}
    assert len(frozen) >= 6
    assert not moved & frozen
    assert moved == names - frozen, "running statistics of what is trained move as well"


def test_norms_are_frozen_beside_what_else_is_chosen(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    """So that a family's norms and a method's freeze make one hook."""
    alone = Freeze(norms=["stem", "backbone"]).setup(plan_of(model))
    same = Freeze(roles=["stem", "backbone"], what="norms").setup(plan_of(model))
    assert alone.trained() == same.trained() != plan_of(model).trained()
    both = Freeze(roles=["stem"], norms=["stem", "backbone"]).setup(plan_of(model))
    moved = moved_after_three_steps(model, both)
    frozen = {name for name in model.state_dict() if name.startswith(("stem.", "stage1.1.", "stage2.1."))}
    assert len(frozen) >= 6
    assert moved == set(model.state_dict()) - frozen
    with pytest.raises(InputError, match="no parameter is selected"):
        Freeze()


def test_modes_follow_what_is_frozen(model: Any, plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(model)
    set_modes(model, Freeze(roles=["backbone"], what="norms").setup(plan), 0)
    assert [model.stage1[i].training for i in range(3)] == [True, False, True]
    set_modes(model, Freeze(roles=["backbone"], what="parameters").setup(plan), 0)
    assert [model.stage1[i].training for i in range(3)] == [False, True, True], "the group is not frozen as a whole"
    set_modes(model, Freeze(roles=["backbone"]).setup(plan), 0)
    assert [model.stage1[i].training for i in range(3)] == [False, False, False]


def test_globs_are_not_restricted(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    plan = Freeze(groups=["stem"], parameters=["neck.*"], what="norms").setup(plan_of(model))
    frozen = {name for name, row in plan.parameters.items() if row.trainable_from is None}
    assert frozen == {"stem.1.weight", "stem.1.bias", "neck.0.weight", "neck.0.bias", "neck.1.weight", "neck.1.bias"}


def test_a_group_without_norms_is_an_error(model: nn.Module, plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(InputError, match=r"the layer groups head have no normalisation layer"):
        Freeze(groups=["neck", "head"], what="norms").setup(plan_of(model))


def test_a_norm_without_parameters_cannot_be_frozen_by_itself(model: Any, plan_of: Callable[..., Plan]) -> None:
    model.stem[1] = nn.BatchNorm1d(4, affine=False)
    with pytest.raises(InputError, match=r"the norms stem\.1 have running statistics and no parameters"):
        Freeze(groups=["stem"], what="norms").setup(plan_of(model))
    plan = Freeze(groups=["stem"]).setup(plan_of(model))
    assert not {name for name in moved_after_three_steps(model, plan) if name.startswith("stem.")}


def test_a_norm_without_parameters_follows_its_group(model: Any, plan_of: Callable[..., Plan]) -> None:
    model.stem.append(nn.BatchNorm1d(4, affine=False)).append(nn.Dropout(0.5))
    plan = plan_of(model)
    set_modes(model, Freeze(groups=["stem"], what="parameters").setup(plan), 0)
    assert [child.training for child in model.stem] == [False, True, True, True]
    set_modes(model, Freeze(groups=["stem"], what="both").setup(plan), 0)
    assert [child.training for child in model.stem] == [False, False, False, False]


def test_an_unknown_what_is_refused_in_a_config(tiny_config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"freeze\.what: input should be 'both', 'parameters' or 'norms', got 'norm'"):
        load_config(tiny_config, ["hooks=[{freeze: {roles: [stem], what: norm}}]"])
