"""Set learning rate and weight decay of layer groups, or of all groups of a role.

Source: common practice, such as a backbone at a tenth of the rate of the head. Differences: the rate is absolute and
is written into the group of the optimizer; it is no multiplier that a scheduler may or may not honour (as timm has it
with `lr_scale`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError


class Rate(BaseModel):
    """Learning rate and weight decay of one part of the model; at least one of the two is set."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    lr: float | None = Field(None, gt=0, description="peak learning rate, in place of train.lr")
    weight_decay: float | None = Field(None, ge=0, description="in place of train.weight_decay")

    @model_validator(mode="after")
    def _says_something(self) -> Rate:
        if self.lr is None and self.weight_decay is None:
            raise ValueError("expected lr, weight_decay or both")
        return self


class LrGroups(SetupHook):
    """Set learning rate and weight decay by role and by layer group; a group's own setting overrides its role's.

    roles:  `{role: {lr, weight_decay}}`, roles stem, backbone, neck, head.
    groups: `{group name: {lr, weight_decay}}`.

    A weight decay holds for weights of two or more dimensions; norms and biases stay without, as in the rest of the
    run. `layerwise_lr` multiplies these rates like any other. Unknown names are an InputError with the nearest one.

    >>> LrGroups(roles={"head": Rate(lr=1e-2)}).key()
    'lr_groups'
    """

    def __init__(self, *, roles: dict[str, Rate] | None = None, groups: dict[str, Rate] | None = None) -> None:
        if not (roles or groups):
            raise InputError("lr_groups: say for what: roles or groups")
        self.roles, self.groups = roles or {}, groups or {}

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with the rates set, roles first."""
        by_role = {role: plan.groups.with_role(role) for role in self.roles}
        by_group = {name: (plan.groups.depth_of(name),) for name in self.groups}
        for rates, depths in ((self.roles, by_role), (self.groups, by_group)):
            plan = _set(plan, rates, depths)
        return plan


def _set(plan: Plan, rates: Mapping[str, Rate], depths: Mapping[str, Iterable[int]]) -> Plan:
    for name, rate in rates.items():
        parameters = plan.in_groups(depths[name])
        if rate.lr is not None:
            plan = plan.set_lr(parameters, rate.lr, f"lr_groups {name} lr {rate.lr:g}")
        if rate.weight_decay is not None:
            plan = plan.set_weight_decay(parameters, rate.weight_decay, f"lr_groups {name} decay {rate.weight_decay:g}")
    return plan
