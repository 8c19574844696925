"""Let the learning rate rise and fall between a lower bound and its peak, in triangles.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.2: the policies triangular
and triangular2 (the amplitude halves after each cycle). Differences: the cycles fill the run, after `train.warmup`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError


@dataclass(frozen=True, slots=True)
class Triangles:
    """A `Schedule`: triangles that fill the run, from `minimum` up to 1 and back.

    >>> [round(Triangles(cycles=2, minimum=0.0, halving=True)(step, 8), 3) for step in range(8)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """

    cycles: int
    minimum: float
    halving: bool

    def __call__(self, step: int, steps: int) -> float:
        """Return the learning rate at `step` of `steps` as a fraction of its peak; InputError if they are too few."""
        if 2 * self.cycles > steps:
            raise InputError(
                f"cyclic_lr: {self.cycles} cycles do not fit into {steps} steps, those after train.warmup, since a "
                "triangle takes two at least; give fewer cycles or more epochs"
            )
        place = step * self.cycles / steps
        cycle = int(place)
        height = 1.0 - abs(2.0 * (place - cycle) - 1.0)
        amplitude = 0.5**cycle if self.halving else 1.0
        return self.minimum + (1.0 - self.minimum) * amplitude * height


class CyclicLr(SetupHook):
    """Replace `train.schedule` by triangles between a fraction of the peak and the peak.

    cycles:  how many triangles in the run after `train.warmup`, at least 1. InputError before the first step if one
             would be shorter than two steps.
    minimum: where each begins and ends, as a fraction of the peak, 0 <= minimum < 1. At 0 the very first step of a
             triangle learns nothing.
    policy:  "triangular", all of one height, or "triangular2", each half as high as the one before.

    >>> CyclicLr(cycles=4).key()
    'cyclic_lr'
    """

    def __init__(
        self,
        *,
        cycles: Annotated[int, Field(ge=1)] = 4,
        minimum: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        policy: Literal["triangular", "triangular2"] = "triangular",
    ) -> None:
        self.schedule = Triangles(cycles, minimum, halving=policy == "triangular2")

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with this schedule."""
        return plan.with_schedule(self.schedule)
