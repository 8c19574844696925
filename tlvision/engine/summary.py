"""Print a short summary of a run before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlvision.engine.build import Run
from tlvision.terminal import note
from tlvision.types import counted

if TYPE_CHECKING:
    from rich.console import Console


def describe(console: Console, parts: Run) -> None:
    """Print model, licence and data, the loaded weights, and what was skipped in the data."""
    config = parts.config
    unlabelled = f", {len(parts.unlabelled.images)} without labels" if parts.unlabelled is not None else ""
    console.print(
        f"tlvision: {config.model.arch} ({parts.plugin.name}, {parts.plugin.licence}) on {len(parts.train.samples)} "
        f"training and {counted(len(parts.val.samples), 'validation image')}{unlabelled}, "
        f"{counted(len(parts.classes), 'class')}"
    )
    console.print(parts.report.summary())
    datasets = [parts.train, parts.val, *([] if parts.source_val is None else [parts.source_val])]
    for data in datasets:
        for sentence in data.skipped:
            name = f"{data.path.name}: "
            note(console, sentence if sentence.startswith(name) else f"{name}{sentence}")
    for sentence in parts.notes:
        note(console, sentence)
