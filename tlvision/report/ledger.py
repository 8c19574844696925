"""Summarise which layer groups were frozen and trained, from the ledger of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from tlvision.report.run_files import RunFiles, number
from tlvision.types import Json

_STATES = {"trained": "#0072b2", "freed later": "#56b4e9", "frozen": "#bbbbbb"}


@dataclass(slots=True)
class _Group:
    role: str
    tensors: int
    numbers: int
    since: list[float]
    rates: list[float]


def ledger_section(files: RunFiles) -> str:
    """Return a bar (trained, freed later, frozen) and a table by layer group; empty if there is no ledger."""
    rows = files.ledger.get("rows")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not rows:
        return ""
    shares = dict.fromkeys(_STATES, 0)
    groups: dict[str, _Group] = {}
    for row in rows:
        size = _size(row)
        shares[_state(row)] += size
        group = groups.setdefault(str(row.get("group")), _Group(str(row.get("role", "")), 0, 0, [], []))
        group.tensors += 1
        group.numbers += size
        group.since.append(_since(row))
        if not math.isinf(_since(row)) and math.isfinite(number(row.get("lr"))):
            group.rates.append(number(row["lr"]))
    return _bar(shares) + _table(groups)


def rate_section(files: RunFiles) -> str:
    """Return why the learning rate was chosen (`train.lr: auto`); empty if it was given as a number."""
    why = files.rate.get("why")
    return f"<p>{escape(why)}</p>" if isinstance(why, str) else ""


def _size(row: Json) -> int:
    shape = row.get("shape")
    sides = shape if isinstance(shape, list) else [0]
    return math.prod(side if isinstance(side, int) else 0 for side in sides)


def _since(row: Json) -> float:
    """Return the step from which a parameter is trained; infinite where it never is."""
    step = row.get("trainable_from")
    return math.inf if step is None else number(step)


def _state(row: Json) -> str:
    since = _since(row)
    return "frozen" if math.isinf(since) else "freed later" if since > 0 else "trained"


def _bar(shares: dict[str, int]) -> str:
    total = sum(shares.values()) or 1
    used = {state: size for state, size in shares.items() if size}
    bar = "".join(
        f'<div style="width: {100 * size / total:.2f}%; background: {_STATES[state]}" title="{state}"></div>'
        for state, size in used.items()
    )
    legend = "".join(
        f'<span><i style="background: {_STATES[state]}"></i>{state}: {size:,} parameters '
        f"({100 * size / total:.1f} %)</span>"
        for state, size in used.items()
    )
    return f'<div class="bar">{bar}</div><p class="legend" style="margin-left: 0">{legend}</p>'


def _table(groups: dict[str, _Group]) -> str:
    head = '<tr><th>group</th><th class="text">role</th><th>tensors</th><th>parameters</th><th>trained from</th>'
    body = "".join(
        f'<tr><td>{escape(name)}</td><td class="text">{escape(group.role)}</td><td>{group.tensors}</td>'
        f"<td>{group.numbers:,}</td><td>{_when(group.since)}</td><td>{_rates(group.rates)}</td></tr>"
        for name, group in groups.items()
    )
    return f'<div class="scroll"><table>{head}<th>learning rate</th></tr>{body}</table></div>'


def _when(since: list[float]) -> str:
    told = {"never" if math.isinf(s) else "the start" if s == 0 else f"step {s:.0f}": s for s in since}
    return " / ".join(sorted(told, key=lambda text: told[text]))


def _rates(rates: list[float]) -> str:
    distinct = sorted(set(rates))
    if not distinct:
        return "-"
    return f"{distinct[0]:.3g}" if len(distinct) == 1 else f"{distinct[0]:.3g} to {distinct[-1]:.3g}"
