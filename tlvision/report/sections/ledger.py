"""Summarise the phases of a run and what was frozen and trained, from its ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tlvision.report.page import Cell, DataTable, Section, section
from tlvision.report.run_files import RunFiles, number, pick
from tlvision.types import Json

_STATES = {"trained": "trained", "freed later": "later", "frozen": "frozen"}  # name -> class in the style sheet


@dataclass(slots=True)
class _Group:
    role: str
    tensors: int = 0
    parameters: int = 0
    since: set[float] = field(default_factory=set)
    rates: set[float] = field(default_factory=set)


def ledger_section(files: RunFiles) -> Section | None:
    """Return a bar of what was trained, the phases, and a table by layer group."""
    rows = files.ledger.get("rows")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not rows:
        return None
    shares = dict.fromkeys(_STATES, 0)
    groups: dict[str, _Group] = {}
    for row in rows:
        since = _since(row)
        shares["frozen" if math.isinf(since) else "freed later" if since > 0 else "trained"] += _size(row)
        group = groups.setdefault(str(row.get("group")), _Group(str(row.get("role", ""))))
        group.tensors += 1
        group.parameters += _size(row)
        group.since.add(since)
        if not math.isinf(since) and math.isfinite(number(row.get("lr"))):
            group.rates.add(number(row["lr"]))
    total = sum(shares.values()) or 1
    bar = [(name, f"{size:,} parameters", 100 * size / total, _STATES[name]) for name, size in shares.items() if size]
    schedule = pick(files.ledger, "schedule.schedule")
    return section(
        "Phases and ledger",
        [
            {"shares": bar},
            {"title": "Phases", "table": _phases(files, rows)},
            {"title": "Layer groups", "table": _groups(groups), "text": f"Schedule: {schedule}." if schedule else ""},
        ],
    )


def _size(row: Json) -> int:
    shape = row.get("shape")
    sides = shape if isinstance(shape, list) else [0]
    return math.prod(side if isinstance(side, int) else 0 for side in sides)


def _since(row: Json) -> float:
    """Return the step from which a parameter is trained, infinite if it never is."""
    step = row.get("trainable_from")
    return math.inf if step is None else number(step)


def _phases(files: RunFiles, rows: list[Json]) -> DataTable:
    starts = sorted({0.0, *(since for since in map(_since, rows) if math.isfinite(since))})
    end = number(pick(files.ledger, "schedule.steps"))
    cells: list[list[Cell]] = []
    for place, start in enumerate(starts):
        stop = starts[place + 1] if place + 1 < len(starts) else end
        trained = [row for row in rows if _since(row) <= start]
        size = sum(map(_size, trained))
        added = {str(row.get("group")) for row in rows if _since(row) == start}
        steps = f"{start:.0f} to {'the end' if math.isnan(stop) else f'{stop:.0f}'}"
        cells.append([place + 1, steps, size, sum(map(_size, rows)) - size, len(trained), len(added)])
    return DataTable(
        ["phase", "steps", "trained parameters", "frozen parameters", "tensors", "groups that begin"], cells
    )


def _groups(groups: dict[str, _Group]) -> DataTable:
    heads = ["group", "role", "tensors", "parameters", "trained from", "learning rate"]
    cells: list[list[Any]] = [
        [name, group.role, group.tensors, group.parameters, _when(group.since), _rates(sorted(group.rates))]
        for name, group in groups.items()
    ]
    return DataTable(heads, cells, text=["role"])


def _when(since: set[float]) -> str:
    return " / ".join("never" if math.isinf(s) else "the start" if s == 0 else f"step {s:.0f}" for s in sorted(since))


def _rates(rates: list[float]) -> str:
    if not rates:
        return "-"
    return f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}"
