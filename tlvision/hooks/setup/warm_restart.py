"""Let the learning rate fall in cosine cycles and jump back to its peak at the start of each.

Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5. Equation:
lr = peak * (minimum + (1 - minimum) * (1 + cos(pi * t / T)) / 2), t steps into a cycle of T. Differences: the cycles
fill the run, after `train.warmup`, exactly; each is `growth` times as long as the one before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError


@dataclass(frozen=True, slots=True)
class CosineCycles:
    """A `Schedule`: cosine cycles that fill the run.

    >>> [round(CosineCycles(cycles=2, growth=1.0, minimum=0.0)(step, 8), 2) for step in range(8)]
    [1.0, 0.85, 0.5, 0.15, 1.0, 0.85, 0.5, 0.15]
    """

    cycles: int
    growth: float
    minimum: float

    def __call__(self, step: int, steps: int) -> float:
        """Return the learning rate at `step` of `steps` as a fraction of its peak; InputError if they are too few."""
        first = self.first_cycle(steps)
        if first < 1:
            raise InputError(
                f"warm_restart: {self.cycles} cycles with growth {self.growth:g} do not fit into {steps} steps, those "
                f"after train.warmup: the first would take {first:.2g}; give fewer cycles or less growth"
            )
        lengths = [self.growth**cycle for cycle in range(self.cycles)]
        ends = [round(steps * sum(lengths[: cycle + 1]) / sum(lengths)) for cycle in range(self.cycles)]
        start = 0
        for end in ends:
            if step < end:
                done = (step - start) / (end - start)
                return self.minimum + (1 - self.minimum) * 0.5 * (1 + math.cos(math.pi * done))
            start = end
        return self.minimum

    def first_cycle(self, steps: int) -> float:
        """Return the length of the first cycle, the shortest, where all of them take `steps`."""
        length, total = 1.0, 0.0
        for _ in range(self.cycles):
            total, length = total + length, length * self.growth  # a product overflows to inf, a power would raise
        return steps / total


class WarmRestart(SetupHook):
    """Replace `train.schedule` by cosine cycles with warm restarts.

    cycles:  how many after `train.warmup`, at least 1; 1 is plain cosine. InputError before the first step if the first
             cycle would be shorter than a step.
    growth:  length of a cycle as a multiple of the one before, at least 1.
    minimum: where each cycle ends, as a fraction of the peak, 0 <= minimum < 1.

    >>> WarmRestart(cycles=3).key()
    'warm_restart'
    """

    def __init__(
        self,
        *,
        cycles: Annotated[int, Field(ge=1)] = 3,
        growth: Annotated[float, Field(ge=1)] = 1.0,
        minimum: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        self.schedule = CosineCycles(cycles, growth, minimum)

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with this schedule."""
        return plan.with_schedule(self.schedule)
