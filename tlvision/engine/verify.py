"""Prove a config's freeze before the run: a few steps of every phase, on the real model and images; nothing is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tlvision import terminal
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.engine.session import build_session
from tlvision.engine.summary import describe
from tlvision.hooks.registry import ALWAYS

if TYPE_CHECKING:
    from rich.console import Console

    from tlvision.training.session import Session


@dataclass(frozen=True, slots=True)
class PhaseProof:
    """The proof of one phase.

    first:  its first step.
    steps:  how many steps were taken.
    frozen: how many parameters and buffers were frozen, and stayed bit-equal.
    """

    first: int
    steps: int
    frozen: int


def verify(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), extra: Sequence[str] = ()
) -> list[PhaseProof]:
    """Take the first steps of every phase of a config, prove the five facts of frozen in each, and print what held.

    config, overrides, extra: as for `tlvision.train`. Writes no files.

    Raises RunError with the name of the layer and the fact that does not hold.
    """
    from tlvision.training.fabric import make_fabric

    console = terminal.console(140)
    loaded = load_config(config, [*overrides, "train.verify=first_steps"], extra)
    fabric = make_fabric(loaded.train)
    parts = build_run(loaded)
    describe(console, parts)
    parts.hooks[:] = [hook for hook in parts.hooks if hook.key() not in ALWAYS]  # those write files
    with tempfile.TemporaryDirectory() as folder:
        session = build_session(parts, Path(folder), fabric)
        try:
            session.call("before_fit")
            proved = _prove_phases(session, console)
        finally:
            session.call_close()
    _print(console, proved)
    return proved


def _prove_phases(session: Session, console: Console) -> list[PhaseProof]:
    from tlvision.training.loop import train_step
    from tlvision.training.verify import FIRST_STEPS, FrozenProof

    context, settings = session.context, session.settings
    starts = context.plan.boundaries()
    ends = [*starts[1:], context.duration.total_steps]
    proved = []
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        for first, end in progress.track(list(zip(starts, ends, strict=True)), description="phases"):
            context.step = first
            steps = min(FIRST_STEPS, end - first)
            batches = session.batches(first, first + steps)
            for step in range(first, first + steps):
                with session.verifier.watch(step):
                    train_step(session, [next(batches) for _ in range(settings.accumulate)])
                    session.call("after_step")
            proof = FrozenProof(context.adapter.module, context.plan, session.optimizer, first)
            proved.append(PhaseProof(first, steps, len(proof.frozen)))
    return proved


def _print(console: Console, proved: list[PhaseProof]) -> None:
    numbers = ("phase from step", "steps taken", "frozen tensors")
    table = terminal.table(*numbers, "outcome", title="proved on the real model and images", right=numbers)
    for phase in proved:
        table.add_row(
            str(phase.first),
            str(phase.steps),
            str(phase.frozen),
            "bit-equal, in eval mode, without gradient, graph or optimizer state" if phase.frozen else "all is trained",
        )
    console.print(table)
    console.print("next           tlvision train with the same config", highlight=False)
