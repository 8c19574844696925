"""Keep a part of the model as the pretrained weights left it.

Source: common practice; which layers transfer is studied in Yosinski et al., "How transferable are features in deep
neural networks?", NeurIPS 2014. Differences: frozen means five facts that the core guarantees (no gradient, eval
mode, bit-equal parameters and buffers, in no active optimizer group, no graph), not only `requires_grad = False`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError, listing


class Freeze(SetupHook):
    """Freeze layer groups for the whole run, chosen in one or more of these ways, which add up.

    through:    every group from the input up to and including this one.
    groups:     these groups, by name.
    roles:      all groups of these roles: stem, backbone, neck, head.
    parameters: globs over parameter names, anchored at both ends: "model.1.*" is not "model.10.…".
    what:       what of the chosen groups: "both", everything; "norms", the normalisation layers, so scale, shift and
                running statistics; "parameters", everything but those, so that the norms go on learning (one without
                parameters follows its group). It does not restrict what the list `parameters` names.
    norms:      roles whose normalisation layers are frozen in addition, for example because batches are too small for
                their statistics.

    A name or glob that matches nothing is an InputError that lists the real ones; so is a freeze that leaves nothing
    to train, or norms where a chosen group has none.

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
        what: Literal["both", "parameters", "norms"] = "both",
        norms: list[str] | None = None,
    ) -> None:
        self.through, self.groups, self.roles, self.parameters = through, groups or [], roles or [], parameters or []
        self.what, self.norms = what, norms or []
        if through is None and not (groups or roles or parameters or norms):
            raise InputError("freeze: no parameter is selected. Set through, groups, roles, parameters or norms.")

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with the chosen parameters never trained."""
        depths: set[int] = set()
        if self.through is not None:
            depths.update(range(plan.groups.depth_of(self.through) + 1))
        depths.update(plan.groups.depth_of(name) for name in self.groups)
        for role in self.roles:
            depths.update(plan.groups.with_role(role))
        why = "freeze" if self.what == "both" else f"freeze {self.what}"
        plan = plan.train_from(self._chosen(plan, sorted(depths)), None, why)
        if self.norms:
            depths = {depth for role in self.norms for depth in plan.groups.with_role(role)}
            plan = plan.train_from(self._norms_in(plan, depths), None, "freeze norms")
        for pattern in self.parameters:
            plan = plan.train_from(plan.groups.matching(pattern), None, f"freeze {pattern}")
        if not plan.trained():
            raise InputError("freeze: no parameter is left to train. Exclude at least the head.")
        return plan

    def _chosen(self, plan: Plan, depths: Iterable[int]) -> tuple[str, ...]:
        """Return the names of the parameters in the groups at `depths` that `what` means."""
        names = plan.in_groups(depths)
        if self.what == "both":
            return names
        if self.what == "parameters":
            return tuple(name for name in names if name not in plan.groups.norms)
        return self._norms_in(plan, set(depths))

    def _norms_in(self, plan: Plan, depths: set[int]) -> tuple[str, ...]:
        """Return the names of the parameters of normalisation layers; InputError if a group has none."""
        norms = tuple(name for name in plan.in_groups(sorted(depths)) if name in plan.groups.norms)
        empty = depths - {plan.parameters[name].depth for name in norms}
        bare = [name for name in plan.groups.bare_norms if plan.groups.modules.get(name) in depths]
        if bare:
            raise InputError(
                f"freeze: the norms {listing(bare)} have running statistics and no parameters, so they cannot be "
                "frozen by themselves; freeze their whole groups, with what: both"
            )
        if empty:
            without = [plan.groups.names()[depth] for depth in sorted(empty)]
            raise InputError(
                f"freeze: what: norms, but the layer groups {listing(without)} have no normalisation layer; leave them "
                "out, or freeze what: both"
            )
        return norms
