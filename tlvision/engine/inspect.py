"""Describe the initial state of a run: weight report, groups, taps, ledger, and phases with their memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision import terminal
from tlvision.config.load import load_config
from tlvision.engine.build import Run, build_run, training_images
from tlvision.engine.summary import describe
from tlvision.types import counted

if TYPE_CHECKING:
    from rich.console import Console


def show(config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), extra: Sequence[str] = ()) -> None:
    """Print weight report, layer groups, taps, ledger and phases of a config, without training."""
    from tlvision.training.ledger import ledger_rows, print_ledger, schedule_row

    console = terminal.console(140)
    loaded = load_config(config, overrides, extra)
    parts = build_run(loaded)
    describe(console, parts)
    console.print(f"classes: {', '.join(parts.classes.names)}", highlight=False)
    _print_weights(console, parts)
    _print_groups(console, parts)
    _print_taps(console, parts)
    rows = ledger_rows(parts.adapter.module, parts.plan, loaded.train, parts.hook_modules())
    print_ledger(console, rows, schedule_row(parts.plan, loaded.train))
    duration = parts.plan.duration
    console.print(f"{counted(duration.epochs, 'epoch', 'epochs')} of {counted(duration.steps_per_epoch, 'step')}")
    _print_phases(console, parts)


def _print_phases(console: Console, parts: Run) -> None:
    from tlvision.data.batches import train_batches
    from tlvision.training.phases import find_phases, print_phases

    batch_size = parts.config.data.batch.labelled
    images = train_batches(training_images(parts, None), batch_size=2, first_step=0, last_step=1)
    phases = find_phases(parts.adapter, parts.plan, parts.config.train, next(iter(images)), batch_size)
    print_phases(console, phases, parts.plan.duration.steps_per_epoch, batch_size)


def _print_weights(console: Console, parts: Run) -> None:
    for what in ("missing", "mismatched", "remapped", "unused"):
        for key in getattr(parts.report, what):
            console.print(f"  {what}: {key}", highlight=False, soft_wrap=True)


def _print_groups(console: Console, parts: Run) -> None:
    table = terminal.table("depth", "group", "role", "modules", title="layer groups, from input to output")
    for depth, group in enumerate(parts.plan.groups.groups):
        table.add_row(str(depth), group.name, group.role, ", ".join(group.modules))
    console.print(table)


def _print_taps(console: Console, parts: Run) -> None:
    table = terminal.table("tap", "module", "channels", "stride", title="taps")
    for tap in parts.adapter.taps:
        table.add_row(tap.name, tap.module_path, str(tap.channels), str(tap.stride))
    console.print(table)
