"""Train the head first, then free one part after the other from the head towards the stem.

Source: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.3 (one more
layer each epoch). Differences: the parts are the plugin's layer groups, so that it means the same for a detector;
when each is freed is a pure function of the step, so that a resumed run and all processes agree; a freed part can start
at rate 0 (re-warm), because an optimizer without history takes its largest steps first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError, counted, listing, nearest

Fraction = Annotated[float, Field(gt=0, lt=1)]


class GradualUnfreeze(SetupHook):
    """Free one unit after the other, from the head towards the stem; the head is trained from the start.

    every:   epochs between two unfreezings, at least 1; this or `at`.
    at:      fractions of the run, ascending, one for each unit that is freed; this or `every`.
    by:      the unit: "group", one layer group, or "role", all of the neck, then the backbone, then the stem.
    down_to: the last unit that is freed (name of a group, or a role); what lies nearer the input stays frozen. None
             frees all.
    rewarm:  epochs over which the learning rate of an unfrozen unit rises from 0 to the scheduled one; 0 for none.

    Parameters that another hook freezes permanently stay frozen. Raises InputError if a unit would never be trained,
    or the fractions do not match the units.

    >>> GradualUnfreeze(every=2).key()
    'gradual_unfreeze'
    """

    def __init__(
        self,
        *,
        every: Annotated[int, Field(ge=1)] | None = None,
        at: list[Fraction] | None = None,
        by: Literal["group", "role"] = "group",
        down_to: str | None = None,
        rewarm: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        if (every is None) == (at is None):
            raise InputError("gradual_unfreeze: expected one of 'every' (epochs) and 'at' (fractions of the run)")
        self.every, self.at, self.by, self.down_to, self.rewarm = every, at, by, down_to, rewarm

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with every unit but the head freed at its step."""
        units = self._units(plan)
        if not units:
            raise InputError(
                "gradual_unfreeze: the model has nothing but a head, so there is nothing to unfreeze. Remove the hook."
            )
        names = [name for name, _ in units]
        if self.down_to is not None and self.down_to not in names:
            raise InputError(f"gradual_unfreeze: no unit '{self.down_to}' to go down to.{nearest(self.down_to, names)}")
        count = len(units) if self.down_to is None else names.index(self.down_to) + 1
        rewarm = round(self.rewarm * plan.duration.steps_per_epoch)
        for (_, depths), step in zip(units, self._steps(plan, names[:count]), strict=False):
            plan = plan.train_from(plan.in_groups(depths), step, "gradual_unfreeze", rewarm=rewarm)
        for _, depths in units[count:]:
            plan = plan.train_from(plan.in_groups(depths), None, f"gradual_unfreeze down to {self.down_to}")
        return plan

    def _units(self, plan: Plan) -> list[tuple[str, tuple[int, ...]]]:
        """Return name and depths of each unit, in the order in which they are freed."""
        groups = plan.groups.groups
        below = [depth for depth in reversed(range(len(groups))) if groups[depth].role != "head"]
        if self.by == "group":
            return [(groups[depth].name, (depth,)) for depth in below]
        roles = list(dict.fromkeys(groups[depth].role for depth in below))
        return [(role, plan.groups.with_role(role)) for role in roles]

    def _steps(self, plan: Plan, names: list[str]) -> list[int]:
        """Return the step at which each of `names` is freed, ascending."""
        duration = plan.duration
        if self.every is not None:
            steps = [self.every * (index + 1) * duration.steps_per_epoch for index in range(len(names))]
            late = [name for name, step in zip(names, steps, strict=True) if step >= duration.total_steps]
            if late:
                epochs, each = (counted(n, "epoch", "epochs") for n in (duration.epochs, self.every))
                raise InputError(
                    f"gradual_unfreeze: {epochs} are too few to free {counted(len(names), 'unit')} every {each}: "
                    f"{listing(late)} would never be trained; train for more than {self.every * len(names)} epochs, "
                    "or set 'down_to'"
                )
            return steps
        fractions = self.at or []
        if len(fractions) != len(names):
            raise InputError(
                f"gradual_unfreeze: expected {len(names)} fractions in 'at', one for each of {', '.join(names)}, got "
                f"{len(fractions)}; add the missing ones, or set 'down_to'"
            )
        steps = [round(fraction * duration.total_steps) for fraction in fractions]
        if any(a >= b for a, b in pairwise([0, *steps, duration.total_steps])):
            raise InputError(
                f"gradual_unfreeze: the fractions {fractions} fall on the steps {steps} of {duration.total_steps}; "
                "expected ascending steps within the run, each at least one after the other"
            )
        return steps
