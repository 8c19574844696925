"""The plan: for every parameter, from which step on it is trained, how fast, and why.

Setup hooks are pure functions from plan to plan; they run once, before the optimizer exists. Nothing else decides what
is trained: the mode of every module and every learning rate follow from the plan and the step alone, so that a resumed
run and a straight one, and all processes, agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tlvision.plugin import GroupMap
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Duration:
    """The length of a run in optimizer steps.

    epochs:          number of epochs, at least 1.
    steps_per_epoch: optimizer steps in one epoch, at least 1.
    """

    epochs: int
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Return the number of optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterPlan:
    """The plan of one parameter.

    depth:          position of its layer group, 0 at the input.
    trainable_from: the step (counted from 0) from which it is trained; 0 is always, None is never.
    rewarm:         steps, from `trainable_from` on, over which its learning rate rises to the scheduled one; 0 is none.
    lr:             its own peak learning rate, or None for `train.lr`.
    lr_scale:       what that peak is multiplied by, 0 < lr_scale.
    weight_decay:   its own weight decay, or None for `train.weight_decay`; norms and biases have none in any case.
    reasons:        one short phrase for each hook that changed it.
    """

    depth: int
    trainable_from: int | None = 0
    rewarm: int = 0
    lr: float | None = None
    lr_scale: float = 1.0
    weight_decay: float | None = None
    reasons: tuple[str, ...] = ()

    def trainable_at(self, step: int) -> bool:
        """Return whether the parameter is trained in `step`."""
        return self.trainable_from is not None and step >= self.trainable_from


class Schedule(Protocol):
    """The learning rate after the warm-up as a fraction of its peak; a pure function with a readable repr.

    step:  optimizer steps since the end of the warm-up, 0 <= step < steps.
    steps: how many there are until the end of the run, at least 1.

    Returns a value in 0..1. Raises InputError if it does not fit into so few steps; it is asked before the first one.
    """

    def __call__(self, step: int, steps: int) -> float:
        """Return the fraction for `step` of `steps`."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a whole model; immutable, every change returns a new one.

    groups:     the layer groups, with every parameter sorted into them.
    duration:   how long the run is, for hooks that count in epochs or fractions.
    parameters: `{parameter name: its plan}`, every parameter of the model exactly once.
    schedule:   the shape of the learning rate over the run, or None for `train.schedule`.
    """

    groups: GroupMap
    duration: Duration
    parameters: Mapping[str, ParameterPlan]
    schedule: Schedule | None = None

    def in_groups(self, depths: Iterable[int]) -> tuple[str, ...]:
        """Return the names of the parameters that lie in the groups at `depths`."""
        wanted = set(depths)
        return tuple(name for name, row in self.parameters.items() if row.depth in wanted)

    def train_from(self, names: Iterable[str], step: int | None, why: str, *, rewarm: int = 0) -> Plan:
        """Freeze `names` until `step` (None: for the whole run).

        Hooks can only freeze for longer: if another hook set a later step (or never), that one holds, so that the
        order of hooks does not matter. A constant of the model (a parameter built with requires_grad off) stays one.

        rewarm: steps, from `step` on, over which the learning rate rises to the scheduled one.
        """
        return self._change(
            (name, replace(row, trainable_from=step, rewarm=rewarm, reasons=(*row.reasons, why)))
            for name, row in self._rows(names)
            if row.trainable_from is not None and (step is None or step >= row.trainable_from)
        )

    def set_lr(self, names: Iterable[str], lr: float, why: str) -> Plan:
        """Set the peak learning rate of `names`, lr > 0, in place of `train.lr`; scales still multiply it."""
        return self._change((name, replace(row, lr=lr, reasons=(*row.reasons, why))) for name, row in self._rows(names))

    def set_weight_decay(self, names: Iterable[str], weight_decay: float, why: str) -> Plan:
        """Set the weight decay of the weights among `names`, 0 or more; norms and biases stay without."""
        return self._change(
            (name, replace(row, weight_decay=weight_decay, reasons=(*row.reasons, why)))
            for name, row in self._rows(names)
        )

    def scale_lr(self, names: Iterable[str], factor: float, why: str) -> Plan:
        """Multiply the learning rate of `names` by `factor`; several hooks multiply."""
        return self._change(
            (name, replace(row, lr_scale=row.lr_scale * factor, reasons=(*row.reasons, why)))
            for name, row in self._rows(names)
        )

    def with_schedule(self, schedule: Schedule) -> Plan:
        """Let the learning rate follow `schedule` after the warm-up; InputError if another hook has set one."""
        if self.schedule is not None:
            raise InputError(f"hooks: two hooks set the schedule, {self.schedule} and {schedule}; keep one of them")
        return replace(self, schedule=schedule)

    def trained(self) -> tuple[str, ...]:
        """Return the names of the parameters that are trained at some time of the run."""
        return tuple(name for name, row in self.parameters.items() if row.trainable_from is not None)

    def boundaries(self) -> tuple[int, ...]:
        """Return the steps at which the set of trained parameters changes, ascending, 0 included."""
        return tuple(sorted({0} | {row.trainable_from for row in self.parameters.values() if row.trainable_from}))

    def _rows(self, names: Iterable[str]) -> list[tuple[str, ParameterPlan]]:
        return [(name, self.parameters[name]) for name in names]

    def _change(self, rows: Iterable[tuple[str, ParameterPlan]]) -> Plan:
        return replace(self, parameters={**self.parameters, **dict(rows)})


CONSTANT = "a constant of the model"


def initial_plan(module: nn.Module, groups: GroupMap, duration: Duration) -> Plan:
    """Return the plan in which everything is trained at the full rate, except what the model itself holds constant."""
    rows = {
        name: ParameterPlan(depth=groups.parameters[name])
        if parameter.requires_grad
        else ParameterPlan(depth=groups.parameters[name], trainable_from=None, reasons=(CONSTANT,))
        for name, parameter in module.named_parameters()
    }
    return Plan(groups, duration, rows)
