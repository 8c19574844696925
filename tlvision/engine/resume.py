"""Open a run to resume it: everything that determines the result must be as it was, or be changed on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.config.hook_config import parse_hook
from tlvision.config.load import load_config
from tlvision.engine.resume_keys import covers, differences, may_change, why_not
from tlvision.engine.run_folder import REMEDY, check_classes, in_run, is_finished, read_classes
from tlvision.files.atomic import find_folder
from tlvision.files.json_files import read_object
from tlvision.types import ClassMap, InputError

if TYPE_CHECKING:
    from tlvision.config.schema import Config

Change = dict[str, Any]
"""A recorded change: {"step", "key", "old", "new"}."""


@dataclass(slots=True, kw_only=True)
class Resumed:
    """A run that is about to be resumed.

    folder:      its checkpoint.
    state:       state.json of that.
    config:      the config to go on with.
    trained:     environment.json as it was when the checkpoint was written.
    environment: environment.json of the run.
    classes:     the classes of the run.
    on_purpose:  keys given with --set.
    changes:     what differs from the run so far and was accepted.
    deliberate:  whether one of them may change what is trained, so that the ledger may differ.
    notes:       sentences for the user.
    """

    run: Path
    folder: Path
    state: dict[str, Any]
    config: Config
    trained: dict[str, Any]
    environment: dict[str, Any]
    classes: ClassMap
    on_purpose: tuple[str, ...]
    changes: list[Change] = field(default_factory=list)
    deliberate: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def recorded(self) -> list[Change]:
        """Return changes that an earlier --resume from this checkpoint made and recorded."""
        changes: list[Change] = self.environment.get("changes", [])
        return [change for change in changes if change["step"] >= self.state["step"]]

    @property
    def added_hooks(self) -> frozenset[str]:
        """Return the hooks that the run did not have so far."""
        added = (c for c in self.changes if c["old"] is None and c["new"] == "present")
        return frozenset(change["key"].removeprefix("hooks.") for change in added)

    def accept(self, key: str, old: object, new: object) -> None:
        """Note a change that was accepted."""
        self.changes.append({"step": self.state["step"], "key": key, "old": old, "new": new})

    def is_deliberate(self, key: str, new: object, path: str | None = None) -> bool:
        """Return whether `key`, or `path` (the key of its file), was changed by --set, now or before."""
        before = any(change["key"] == key and change["new"] == new for change in self.recorded)
        return before or any(covers(given, path or key) for given in self.on_purpose)


def read_run_config(run: Path, overrides: Sequence[str] = (), *, finished: bool = False) -> Config:
    """Return the config of a run folder.

    finished: whether the run is only used; hooks may then have the parameters of an earlier version.

    Raises InputError that names config.yaml if it is missing or damaged.
    """
    path = in_run(run, "config.yaml")
    if path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty: the run was stopped before it began. Remove '{run}' and start again.")
    try:
        return load_config(path, overrides, beside=False, earlier=finished)
    except (RecursionError, OSError, ValueError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({type(error).__name__}). {REMEDY}") from error


def open_run(run: Path, overrides: Sequence[str] = ()) -> Resumed | None:
    """Check the folder of a run and return it, or None if it was stopped before its first checkpoint.

    overrides: "train.lr=2e-4" and so on, changes on purpose.

    Raises InputError if something that determines the result differs or is damaged; it names the file or the key.
    """
    from tlvision.training.state import read_state

    config = read_run_config(run, overrides)
    try:
        folder = find_folder(run / "checkpoints" / "last")
    except InputError:
        _check_nothing_is_lost(run, config)
        return None
    state = read_state(folder)
    has_manifest = _check_checkpoints(run, folder, state)
    classes = read_classes(run)
    check_classes(run, folder, classes)
    environment = _read_environment(run / "environment.json")
    resumed = Resumed(
        run=run,
        folder=folder,
        state=state,
        config=config,
        trained=_read_environment(folder / "environment.json") if has_manifest else environment,
        environment=environment,
        classes=classes,
        on_purpose=tuple(override.partition("=")[0].strip() for override in overrides),
    )
    if has_manifest:
        _compare_configs(resumed, load_config(folder / "config.yaml", beside=False))
    else:
        resumed.notes.append(
            "this run was made by an earlier version: its checkpoint has no manifest, so damage and edits of "
            "config.yaml cannot be found"
        )
        resumed.deliberate = bool(overrides)
    return resumed


def _check_checkpoints(run: Path, folder: Path, state: Mapping[str, Any]) -> bool:
    """Check every file of both checkpoints; return whether the last one has a manifest."""
    from tlvision.training.checkpoint import MODEL
    from tlvision.training.manifest import NAME, check_manifest
    from tlvision.training.state import REMEDY as LAST_REMEDY

    parts = ("optimizer", "random.0")
    needed = [MODEL, "classes.json", "state.json", *(f"{part}.{kind}" for part in parts for kind in _KINDS)]
    if "format" in state:
        if "hooks" not in state:
            raise InputError(f"'{folder / 'state.json'}': hooks is missing. {LAST_REMEDY}")
        needed += ["config.yaml", "environment.json", *(f"hook.{k}.{kind}" for k in state["hooks"] for kind in _KINDS)]
    has_manifest = check_manifest(folder, LAST_REMEDY, needed)
    if "format" in state and not has_manifest:
        raise InputError(f"checkpoint: '{folder / NAME}' is missing. {LAST_REMEDY}")
    if state["best"] is not None:
        best = find_folder(run / "checkpoints" / "best")
        check_manifest(best, "Restore it from a copy, or start a new run.", (MODEL, "metrics.json"))
    return has_manifest


_KINDS = ("safetensors", "json")


def _read_environment(path: Path) -> dict[str, Any]:
    """Return environment.json. Raises InputError that names it if it is damaged."""
    found = read_object(path, REMEDY)
    data, changes = found.get("data"), found.get("changes", [])
    whole = isinstance(data, dict) and all(isinstance(entry, dict) for entry in data.values())
    if not whole or not isinstance(changes, list) or not all(_is_change(change) for change in changes):
        raise InputError(f"'{path}' is damaged: its entries 'data' or 'changes' are not as written. {REMEDY}")
    return found


def _is_change(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= {"key", "old", "new"} and isinstance(value.get("step"), int)


def _compare_configs(resumed: Resumed, trained: Config) -> None:
    """Accept what may differ between the config of the run so far and the present one; InputError for anything else."""
    edited = []
    for key, (old, new) in differences(trained, resumed.config).items():
        why = why_not(key)
        if why is not None:
            raise InputError(
                f"--resume: {key} cannot change, because {why}. The run was trained with {_show(old)}, the config has "
                f"{_show(new)}. Set it back, or start a new run."
            )
        deliberate = resumed.is_deliberate(key, new)
        if not deliberate and not may_change(key, old, new):
            edited.append((key, old, new))
        resumed.deliberate |= deliberate
        resumed.accept(key, old, new)
    if edited:
        lines = "\n  ".join(
            f"{key}: the run was trained with {_show(old)}, config.yaml has {_show(new)}" for key, old, new in edited
        )
        raise InputError(
            f"--resume: '{resumed.run / 'config.yaml'}' was edited:\n  {lines}\nSet it back, or change it on purpose "
            f"with --set {_set_argument(edited[0][0], edited[0][2])}."
        )


def _set_argument(key: str, new: object) -> str:
    """Return what to write behind --set; a hook can only be changed with the whole list."""
    return "'hooks=[…]'" if covers("hooks", key) else f"{key}={_show(new)}"


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _check_nothing_is_lost(run: Path, config: Config) -> None:
    """Raise InputError if a run without checkpoints/last must have had one: to start again would destroy results."""
    settings: Any = config.hook("checkpoint") or parse_hook("checkpoint").parameters
    every, every_steps = settings.every, settings.every_steps
    lines = list(_steps_in_log(run / "log.jsonl"))
    steps, epochs = max((s for s, _ in lines), default=0), max((e for _, e in lines), default=0)
    if is_finished(run) or epochs > every or (every_steps is not None and steps > every_steps):
        raise InputError(
            f"--resume: '{run / 'checkpoints' / 'last'}' is missing, although the run had written it (step {steps}). "
            "Restore it from a copy, or start a new run; checkpoints/best/model.safetensors can be its model.weights."
        )


def _steps_in_log(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (step, epoch) of each line of log.jsonl that has both."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            yield int(entry["step"]), int(entry["epoch"])
        except (ValueError, TypeError, KeyError, RecursionError):  # the half line of a killed process
            continue
