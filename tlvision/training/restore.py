"""Restore a session from `checkpoints/last`: every part is checked, nothing starts silently from new."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.files.json_files import read_object
from tlvision.hooks import Hook, ObjectiveHook
from tlvision.training import checkpoint
from tlvision.types import InputError, TlvisionError

if TYPE_CHECKING:
    from tlvision.training.session import Session

FORMAT = 2
"""Version of state.json. 1 had no manifest, no config and no list of hooks beside it."""

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


def restore_session(session: Session, folder: Path, *, added: Container[str], changed: bool) -> None:
    """Fill model, optimizer, hooks, counters and random generators from a checkpoint folder; see `Session.restore`."""
    state, context = read_state(folder), session.context
    duration = context.duration
    check_step(
        state,
        folder / "state.json",
        steps_per_epoch=duration.steps_per_epoch,
        epochs=duration.epochs,
        select=context.select,
    )
    checkpoint.load_model_strictly(context.adapter.module, folder / checkpoint.MODEL)
    context.step, context.best = state["step"], state["best"]
    context.metrics, context.images_seen = state["metrics"], state["images_seen"]
    session.stopped, session.closed_epochs = state["stopped"], state["closed_epochs"]
    with _naming(folder / "optimizer.safetensors"):
        session.restore_optimizer(checkpoint.load_tensors(folder / "optimizer.safetensors"), changed=changed)
    for hook in session.hooks:
        if hook.key() not in added:
            _restore_hook(hook, folder / f"hook.{hook.key()}.safetensors", state)
    path = folder / f"random.{session.fabric.global_rank}.safetensors"
    if not path.exists():
        raise InputError(
            f"--resume: the run was saved by fewer processes than {session.fabric.world_size}; "
            "resume with as many as it had"
        )
    with _naming(path):
        checkpoint.set_random_state(checkpoint.load_tensors(path))


def keeps_state(hook: Hook) -> bool:
    """Tell whether a hook has something to restore."""
    owns_module = isinstance(hook, ObjectiveHook) and hook.module is not None
    return owns_module or type(hook).state_dict is not Hook.state_dict


def _restore_hook(hook: Hook, path: Path, state: dict[str, Any]) -> None:
    expected = hook.key() in state["hooks"] if "hooks" in state else keeps_state(hook)
    if not path.exists():
        if expected:
            raise InputError(
                f"checkpoint: '{path}' is missing, so the hook '{hook.key()}' would start from new and give another "
                f"result. {REMEDY}"
            )
        return
    with _naming(path):
        values = checkpoint.load_tensors(path)
        if isinstance(hook, ObjectiveHook) and hook.module is not None:
            prefix = "module."
            own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            hook.module.load_state_dict(own)
            values = {name: value for name, value in values.items() if not name.startswith(prefix)}
        hook.load_state_dict(values)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any error of a damaged part of a checkpoint into an InputError that names the file."""
    try:
        yield
    except TlvisionError:
        raise
    except Exception as error:  # content decides which: a key, a type, a shape
        raise InputError(
            f"checkpoint: '{path}' does not fit this run ({type(error).__name__}: {str(error)[:200]}). {REMEDY}"
        ) from error
