"""Restore a session from `checkpoints/last`: every part is checked, nothing starts silently from new."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.files.atomic import find_folder
from tlvision.hooks import Hook, ObjectiveHook
from tlvision.training import checkpoint
from tlvision.training.state import REMEDY, check_step, keeps_state, read_state
from tlvision.types import InputError, TlvisionError

if TYPE_CHECKING:
    from tlvision.training.session import Session


def restore_session(session: Session, *, added: Container[str] = (), changed: bool = False) -> None:
    """Fill model, optimizer, hooks, counters and random generators from `checkpoints/last`; called once, before `fit`.

    added:   keys of hooks that the run did not have; they start without a state.
    changed: whether the config was changed on purpose, so that what is trained may differ.

    Raises InputError if a part of the checkpoint is missing or does not fit.
    """
    folder = find_folder(session.context.run_dir / "checkpoints" / "last")
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
