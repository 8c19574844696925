"""Keep a part of the model as the pretrained weights left it.

Source: common practice; which layers transfer is studied in Yosinski et al., "How transferable are features in deep
neural networks?", NeurIPS 2014. Different here: frozen means five facts that the core guarantees (no gradient, eval
mode, bit-equal parameters and buffers, in no active optimizer group, no graph), not only `requires_grad = False`.
"""

from __future__ import annotations

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError


class Freeze(SetupHook):
    """Freeze layer groups for the whole run, chosen in one or more of these ways, which add up.

    through:    every group from the input up to and including this one.
    groups:     these groups, by name.
    roles:      all groups of these roles: stem, backbone, neck, head.
    parameters: globs over parameter names, anchored at both ends: "model.1.*" is not "model.10.…".

    A name or glob that matches nothing is an InputError that lists the real ones; so is a freeze that leaves nothing
    to train.

    >>> Freeze(roles=["stem", "backbone"]).key()
    'freeze'
    """

    def __init__(
        self,
        *,
        through: str | None = None,
        groups: list[str] | None = None,
        roles: list[str] | None = None,
        parameters: list[str] | None = None,
    ) -> None:
        self.through, self.groups, self.roles, self.parameters = through, groups or [], roles or [], parameters or []
        if through is None and not (groups or roles or parameters):
            raise InputError("freeze: say what: through, groups, roles or parameters")

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with the chosen parameters never trained."""
        depths: set[int] = set()
        if self.through is not None:
            depths.update(range(plan.groups.depth_of(self.through) + 1))
        depths.update(plan.groups.depth_of(name) for name in self.groups)
        for role in self.roles:
            depths.update(plan.groups.with_role(role))
        plan = plan.train_from(plan.in_groups(depths), None, "freeze")
        for pattern in self.parameters:
            plan = plan.train_from(plan.groups.matching(pattern), None, f"freeze {pattern}")
        if not any(row.trainable_from is not None for row in plan.parameters.values()):
            raise InputError("freeze: nothing is left to train; leave at least the head out of it")
        return plan
