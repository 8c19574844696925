"""What a run is about, in a few lines for people."""

from __future__ import annotations

from rich.console import Console

from tlvision.config.assemble import Parts


def describe(console: Console, parts: Parts) -> None:
    """Print model, licence and data, what came of the weights, and everything that was skipped in the data."""
    config = parts.config
    unlabelled = f", {len(parts.unlabelled.images)} without labels" if parts.unlabelled is not None else ""
    console.print(
        f"tlvision: {config.model.arch} ({parts.plugin.name}, {parts.plugin.licence}) on {len(parts.train.samples)} "
        f"training and {len(parts.val.samples)} validation images{unlabelled}, {len(parts.classes)} classes",
        highlight=False,
    )
    console.print(parts.report.summary(), highlight=False)
    datasets = [parts.train, parts.val, *([] if parts.source_val is None else [parts.source_val])]
    for data in datasets:
        for note in data.skipped:
            console.print(f"[yellow]note[/] {data.path.name}: {note}", highlight=False)
    for note in parts.notes:
        console.print(f"[yellow]note[/] {note}", highlight=False)
