"""What a run would start from: weight report, groups, taps, ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tlvision.config.assemble import Parts, assemble
from tlvision.config.describe import describe
from tlvision.config.load import load_config


def show(config: str | Path, overrides: Sequence[str] = ()) -> None:
    """Print weight report, layer groups, taps and ledger of a config, without training."""
    from tlvision.training.ledger import ledger_rows, print_ledger

    console = Console(width=None if Console().is_terminal else 140)
    loaded = load_config(config, overrides)
    parts = assemble(loaded)
    describe(console, parts)
    console.print(f"classes: {', '.join(parts.classes.names)}", highlight=False)
    _print_weights(console, parts)
    _print_groups(console, parts)
    _print_taps(console, parts)
    print_ledger(console, ledger_rows(parts.adapter.module, parts.plan, loaded.train, parts.hook_modules()))
    duration = parts.plan.duration
    console.print(f"{duration.epochs} epochs of {duration.steps_per_epoch} steps", highlight=False)
    for step in parts.plan.boundaries()[1:]:
        console.print(f"what is trained changes at step {step}", highlight=False)


def _print_weights(console: Console, parts: Parts) -> None:
    for what in ("missing", "mismatched", "remapped", "unused"):
        for key in getattr(parts.report, what):
            console.print(f"  {what}: {key}", highlight=False, soft_wrap=True)


def _print_groups(console: Console, parts: Parts) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="layer groups, from input to output", title_justify="left")
    for name in ("depth", "group", "role", "modules"):
        table.add_column(name)
    for depth, group in enumerate(parts.plan.groups.groups):
        table.add_row(str(depth), group.name, group.role, ", ".join(group.modules))
    console.print(table)


def _print_taps(console: Console, parts: Parts) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="taps", title_justify="left")
    for name in ("tap", "module", "channels", "stride"):
        table.add_column(name)
    for tap in parts.adapter.taps():
        table.add_row(tap.name, tap.module_path, str(tap.channels), str(tap.stride))
    console.print(table)
