"""Prove over a whole run of another trainer that what is frozen is frozen, phase by phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tlvision.engine.verify import PhaseProof
from tlvision.hooks.plan import CONSTANT
from tlvision.training.modes import Modes
from tlvision.training.verify import FIRST_STEPS, FrozenProof

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tlvision.hooks import Plan

Averaged = Callable[[], Mapping[str, "Tensor"] | None]


class RunProof:
    """Freeze what the plan freezes, and prove the five facts of frozen from the first to the last step of each phase.

    Modes and graph are watched in the first steps of a phase. Parameters and buffers are compared bit by bit after
    those and at the end of the phase, so also over upstream's validation and whatever else happens in between.

    trainer:  name of the trainer, for messages.
    averaged: returns averaged weights that are to be proved as well, or None.
    """

    def __init__(
        self, module: nn.Module, plan: Plan, optimizer: torch.optim.Optimizer, trainer: str, averaged: Averaged
    ) -> None:
        self._module, self._plan, self._optimizer, self._averaged = module, plan, optimizer, averaged
        self._remedy = (
            f"{trainer}, one of its callbacks or your code does this: take out other code that sets modes, "
            "requires_grad or weights"
        )
        self._silenced: list[nn.Module] = []
        self._phase, self._step, self._checked = -1, -1, False
        self._modes: Modes | None = None
        self._proof: FrozenProof | None = None
        self.phases: list[PhaseProof] = []

    def begin(self, step: int) -> None:
        """Prepare for `step`; at the first of a phase, prove the one before it. Raises RunError if a fact is broken."""
        phase = max(boundary for boundary in self._plan.boundaries() if boundary <= step)
        if phase != self._phase:
            self._close_phase(step)
            self._phase, self._first, self._checked = phase, step, False
            self._modes = Modes(self._module, self._plan, phase)
            self._wake()
            self.freeze()
            self._proof = FrozenProof(self._module, self._plan, self._optimizer, phase, remedy=self._remedy)
        elif self._proof is not None and not self._checked and step >= self._first + FIRST_STEPS:
            self._checked = True
            self._prove()
        self._step = step

    def freeze(self) -> None:
        """Freeze what the plan freezes in the current step, whatever the trainer has done to modes since."""
        assert self._modes is not None
        known = {id(each) for each in self._silenced}
        self._silenced += [each for each in self._modes.restrict() if id(each) not in known]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch modes and graph during a forward pass inside the with-block, in the first steps of a phase."""
        if self._proof is None or self._step >= self._first + FIRST_STEPS:
            yield
            return
        with self._proof.watching():
            yield

    def check_gradients(self) -> None:
        """Raise RunError if something frozen has a gradient or is in the optimizer; call before an optimizer step."""
        if self._proof is not None and self._step < self._first + FIRST_STEPS:
            self._proof.check(bits=False)

    def close(self, end: int) -> tuple[PhaseProof, ...]:
        """Prove the last phase, which ends before step `end`, and return all. Raises RunError if a fact is broken."""
        self._close_phase(end)
        return tuple(self.phases)

    def release(self) -> None:
        """Leave modes and requires_grad as upstream has them: what the model does not hold constant can be trained."""
        parameters = dict(self._module.named_parameters())
        for name, row in self._plan.parameters.items():
            if name in parameters and CONSTANT not in row.reasons:
                parameters[name].requires_grad_(True)
        for child in self._silenced:
            child.training = self._module.training
        self._silenced = []

    def _wake(self) -> None:
        """Put modules that only an earlier phase froze back into train mode."""
        assert self._modes is not None
        trained = {id(child) for child, training in self._modes.modules.values() if training}
        for child in self._silenced:
            if id(child) in trained:
                child.training = self._module.training
        self._silenced = [child for child in self._silenced if id(child) not in trained]

    def _close_phase(self, end: int) -> None:
        if self._proof is None:
            return
        self._prove()
        self.phases.append(PhaseProof(self._first, end - self._first, len(self._proof.frozen)))
        self._proof = None

    def _prove(self) -> None:
        """Compare bits; modes outside of a forward pass are the trainer's, which sets them after each evaluation."""
        assert self._proof is not None
        self.freeze()
        self._proof.check(self._averaged())
