"""Resume: seed and checkpoint decide everything that comes after them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import same
from tlvision.training.checkpoint import (
    MODEL,
    load_model_strictly,
    load_optimizer_state,
    load_tensors,
    optimizer_state,
    random_state,
    save_tensors,
    save_weights,
    set_random_state,
)
from tlvision.types import listing

if TYPE_CHECKING:
    from torch import nn

    from tlvision.conformance.case import Case
    from tlvision.conformance.mini_trainer import MiniTrainer

STEPS = 2
"""Steps before the interruption: enough for an optimizer to have a state."""


@check()
def fresh_builds_are_seeded(case: Case) -> None:
    """Without weights, two builds with the same seed are equal and two with different seeds are not."""
    states = [case.build(weights="none", seed=seed)[0].module.state_dict() for seed in (0, 0, 1)]
    unlike = [name for name, value in states[0].items() if not same(value, states[1][name])]
    assert not unlike, f"two builds with the same seed differ in {listing(unlike)}"
    assert not same(states[0], states[2]), "two builds with different seeds are equal; build() sets the seed itself"


@check(requires=("losses_finite_and_differentiable", "groups_partition"))
def resume_gives_the_identical_next_step(case: Case) -> None:
    """Saved, built afresh and restored, a training goes on bit for bit as if it had not been interrupted."""
    optimizers: tuple[Literal["sgd", "adamw"], ...] = ("sgd", "adamw")
    for optimizer in optimizers:
        straight, resumed = _practice(case, optimizer, seed=0), _practice(case, optimizer, seed=1)
        batch = case.batch(straight.adapter, "square")
        for _ in range(STEPS):
            straight.take_step(*batch)
        with tempfile.TemporaryDirectory() as folder:
            _save(case, straight, Path(folder))
            losses = straight.take_step(*batch)
            _restore(resumed, Path(folder))
        assert resumed.take_step(*batch) == losses, f"with {optimizer}, the first loss after resuming is another"
        state = straight.adapter.module.state_dict()
        unlike = [name for name, value in resumed.adapter.module.state_dict().items() if not same(value, state[name])]
        assert not unlike, f"with {optimizer}, the first step after resuming differs in {listing(unlike)}"


def _practice(case: Case, optimizer: Literal["sgd", "adamw"], seed: int) -> MiniTrainer:
    adapter, _ = case.build(seed=seed)
    return case.trainer(adapter, case.plan(adapter, steps=4), optimizer=optimizer, lr=1e-3, schedule="cosine")


def _names(module: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in module.named_parameters()}


def _save(case: Case, practice: MiniTrainer, folder: Path) -> None:
    module = practice.adapter.module
    save_weights(folder / MODEL, module.state_dict(), case.classes)
    save_tensors(folder / "optimizer.safetensors", optimizer_state(practice.optimizer, _names(module)))
    save_tensors(folder / "random.safetensors", random_state())


def _restore(practice: MiniTrainer, folder: Path) -> None:
    module = practice.adapter.module
    load_model_strictly(module, folder / MODEL)
    load_optimizer_state(practice.optimizer, _names(module), load_tensors(folder / "optimizer.safetensors"))
    practice.step = STEPS
    set_random_state(load_tensors(folder / "random.safetensors"))
