"""The ledger: every parameter in exactly one row, with learning rate, start of training and reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tlvision import terminal
from tlvision.files.json_files import read_object, write_json
from tlvision.training.optim import peak_lr_of, weight_decay_of
from tlvision.types import InputError, counted, listing
from tlvision.types.shown import clip

if TYPE_CHECKING:
    from torch import nn

    from tlvision.hooks import Plan
    from tlvision.training.settings import TrainSettings


LEDGER_REMEDY = "Restore the file, or start a new run."
ROW_KEYS = {"parameter", "lr", "weight_decay", "trainable_from"}


def ledger_rows(
    module: nn.Module, plan: Plan, settings: TrainSettings, extra: Mapping[str, nn.Module]
) -> list[dict[str, Any]]:
    """Return one JSON-able row for each parameter.

    Keys: parameter, shape, group, role, depth, lr (peak), weight_decay, trainable_from (a step; None: never),
    rewarm (in steps), why.
    """
    rows = []
    for name, parameter in module.named_parameters():
        row = plan.parameters[name]
        group = plan.groups.groups[row.depth]
        rows.append(
            {
                "parameter": name,
                "shape": list(parameter.shape),
                "group": group.name,
                "role": group.role,
                "depth": row.depth,
                "lr": peak_lr_of(row, settings),
                "weight_decay": weight_decay_of(row, parameter, settings),
                "trainable_from": row.trainable_from,
                "rewarm": row.rewarm,
                "why": "; ".join(row.reasons),
            }
        )
    for hook, owned in extra.items():
        rows += [
            {
                "parameter": f"hook.{hook}.{name}",
                "shape": list(parameter.shape),
                "group": f"hook.{hook}",
                "role": "hook",
                "depth": len(plan.groups.groups),
                "lr": settings.base_lr,
                "weight_decay": settings.weight_decay if parameter.ndim > 1 else 0.0,
                "trainable_from": 0,
                "rewarm": 0,
                "why": "owned by the hook",
            }
            for name, parameter in owned.named_parameters()
        ]
    return rows


def schedule_row(plan: Plan, settings: TrainSettings) -> dict[str, Any]:
    """Return the learning-rate schedule: its kind, warm-up in steps, length in steps."""
    total = plan.duration.total_steps
    shape = settings.schedule if plan.schedule is None else str(plan.schedule)
    if plan.schedule is None and settings.schedule in {"cosine", "linear"}:
        shape += f" to {100 * settings.final_lr:g} % of the rate"
    return {"schedule": shape, "warmup": round(settings.warmup * total), "steps": total}


def write_ledger(path: Path, rows: list[dict[str, Any]], schedule: dict[str, Any], *, rate: str | None = None) -> None:
    """Save rows and schedule as `ledger.json`; rate: why the learning rate was chosen, if a run has chosen it."""
    write_json(path, {"schedule": schedule, **({} if rate is None else {"rate": rate}), "rows": rows}, indent=1)


def check_ledger(path: Path, rows: list[dict[str, Any]], schedule: dict[str, Any]) -> str | None:
    """Compare the ledger with that of the resumed run.

    Returns a sentence where the schedule alone has changed (a longer run, say), which may be meant; None if nothing
    has. Raises InputError that names the rows that differ: what is trained, when and how fast must not change.
    """
    ledger = _read_ledger(path)
    saved = {row["parameter"]: row for row in ledger["rows"]}
    current = {row["parameter"]: row for row in json.loads(json.dumps(rows))}
    differing = sorted(name for name in saved.keys() | current.keys() if saved.get(name) != current.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"--resume: the ledger of this config differs from the run's in {counted(len(differing), 'row')} "
            f"({listing(differing, 3)}); for '{name}' the run has {_brief(saved.get(name))}, the config "
            f"{_brief(current.get(name))}; resume with the run's own config, give the change on purpose with --set, or "
            "start a new run"
        )
    if ledger["schedule"] != schedule:
        return f"the run was started with the schedule {ledger['schedule']} and continues with {schedule}"
    return None


def _read_ledger(path: Path) -> dict[str, Any]:
    ledger = read_object(path, LEDGER_REMEDY)
    rows = ledger.get("rows")
    if "schedule" not in ledger or not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise InputError(f"'{path}' is damaged: it has no rows of parameters. {LEDGER_REMEDY}")
    return ledger


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and row.keys() >= ROW_KEYS and isinstance(row["parameter"], str)


def _brief(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no such parameter"
    return (
        f"lr {_number(row['lr'])}, decay {_number(row['weight_decay'])}, trained from {_number(row['trainable_from'])}"
    )


def _number(value: object) -> str:
    """Return a number of three digits; of a damaged ledger whatever is in its place."""
    return f"{value:.3g}" if isinstance(value, float) else clip(str(value), 40)


def print_ledger(console: Console, rows: list[dict[str, Any]], schedule: dict[str, Any]) -> None:
    """Print one line for each layer group, and for each part of a group that is treated differently; the schedule."""
    numbers = ("tensors", "parameters", "lr", "decay")
    table = terminal.table("group", "role", *numbers, "trained from", "why", title="ledger", right=numbers)
    parts: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault((row["group"], row["role"], row["lr"], row["trainable_from"], row["why"]), []).append(row)
    for (group, role, lr, start, why), members in parts.items():
        decays = sorted({row["weight_decay"] for row in members}, reverse=True)
        when = "frozen" if start is None else "the start" if start == 0 else f"step {start}"
        when += f", re-warm {members[0]['rewarm']}" if members[0]["rewarm"] else ""
        table.add_row(
            group,
            role,
            str(len(members)),
            f"{_count(members):,}",
            "-" if start is None else f"{lr:.3g}",
            "-" if start is None else "/".join(f"{decay:.3g}" for decay in decays),
            when,
            why,
        )
    console.print(table)
    trained = _count([row for row in rows if row["trainable_from"] is not None])
    console.print(
        f"{trained:,} of {_count(rows):,} parameters are trained; learning rate: {schedule['schedule']}, after "
        f"{counted(schedule['warmup'], 'step')} of warm-up, {counted(schedule['steps'], 'step')} in all",
        highlight=False,
    )


def _count(rows: list[dict[str, Any]]) -> int:
    total = 0
    for row in rows:
        size = 1
        for length in row["shape"]:
            size *= length
        total += size
    return total
