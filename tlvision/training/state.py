"""The file state.json of a checkpoint: its format, and the checks before a run is resumed from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tlvision.files.json_files import read_object
from tlvision.hooks import Hook, ObjectiveHook
from tlvision.types import InputError

FORMAT = 2
"""Version of state.json. 1 had no manifest, no config and no list of hooks."""

REMEDY = "Restore it from a copy, or start a new run; its model.weights can be checkpoints/best/model.safetensors."


def read_state(folder: Path) -> dict[str, Any]:
    """Return `state.json` of a checkpoint folder.

    Raises InputError that names the file and the value if a value is missing, of another type or impossible.
    """
    path = folder / "state.json"
    state = read_object(path, REMEDY)
    for key in ("step", "closed_epochs", "images_seen"):
        if type(state.get(key)) is not int or state[key] < 0:
            raise InputError(f"'{path}': {key} is {state.get(key)!r}; expected a whole number from 0 on. {REMEDY}")
    if absent := [key for key in ("best", "metrics", "stopped") if key not in state]:
        raise InputError(f"'{path}': {absent[0]} is missing. {REMEDY}")
    best, metrics, stopped = state["best"], state["metrics"], state["stopped"]
    if not (best is None or (_is_number(best) and not math.isinf(best))):
        raise InputError(f"'{path}': best is {best!r}; expected a number or null. {REMEDY}")
    if not isinstance(metrics, dict) or not all(_is_number(value) for value in metrics.values()):
        raise InputError(f"'{path}': metrics are not numbers by name. {REMEDY}")
    if not (stopped is None or isinstance(stopped, str)):
        raise InputError(f"'{path}': stopped is {stopped!r}; expected a text or null. {REMEDY}")
    hooks = state.get("hooks", [])
    if not isinstance(hooks, list) or not all(isinstance(key, str) for key in hooks):
        raise InputError(f"'{path}': hooks are not a list of names. {REMEDY}")
    return state


def check_step(state: dict[str, Any], path: Path, *, steps_per_epoch: int, epochs: int, select: str) -> None:
    """Raise InputError if the step in `state` is impossible in a run of this length, or if the run's shape differs."""
    before = state.get("steps_per_epoch", steps_per_epoch)
    if before != steps_per_epoch:
        raise InputError(
            f"--resume: an epoch had {before} steps, now it has {steps_per_epoch}. The number of images, "
            "data.batch.labelled, train.accumulate and the number of processes must stay. Set them back, or start a "
            "new run."
        )
    step, closed = state["step"], state["closed_epochs"]
    if closed > epochs or step > epochs * steps_per_epoch:
        done = f"{closed} epochs and {step} steps are done"
        raise InputError(
            f"train.epochs: {done} ('{path}'), the config asks for {epochs} epochs of {steps_per_epoch} steps. Set "
            f"train.epochs to {max(closed, -(-step // steps_per_epoch))} or more."
        )
    if not closed * steps_per_epoch <= step <= (closed + 1) * steps_per_epoch:
        raise InputError(
            f"'{path}': step {step} does not belong to {closed} closed epochs of {steps_per_epoch} steps. {REMEDY}"
        )
    if state.get("select", select) != select:
        raise InputError(
            f"evaluate.select: the best checkpoint so far was selected by {state['select']}, the config selects by "
            f"{select}; their values cannot be compared. Set it back, or start a new run."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def keeps_state(hook: Hook) -> bool:
    """Return whether a hook has something to restore."""
    owns_module = isinstance(hook, ObjectiveHook) and hook.module is not None
    return owns_module or type(hook).state_dict is not Hook.state_dict
