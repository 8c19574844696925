"""Compare data and environment of a resumed run with those it was trained with, and record changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision import terminal
from tlvision.config.load import dump_config
from tlvision.files.json_files import write_json, write_text
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from tlvision.config.schema import Config, DatasetSettings
    from tlvision.engine.resume import Change, Resumed
    from tlvision.training.session import Session

NOTED = ("python", "platform", "tlvision", "commit", "packages", "device", "precision")
"""Entries of environment.json that may differ; on other hardware and with other packages the last bits do."""

NEVER = {"val", "source_val"}
"""Data that selects the best checkpoint: values on other data could not be compared."""


def check_labels(resumed: Resumed) -> None:
    """Compare the annotation files with those that the run was trained with, before anything reads them.

    Raises InputError that names the file and what to do.
    """
    for split, (name, settings) in _datasets(resumed.config).items():
        before = resumed.trained["data"].get(split, {}).get("sha256")
        if settings.json_ is None or before is None or not Path(settings.json_).is_file():
            continue  # a file that is missing is reported by its reader
        from tlvision.files.inputs import file_hash

        path = Path(settings.json_)
        now = file_hash(path)
        if now == before:
            continue
        _check_new_classes(resumed, path)
        key, given = f"data.{name}.json (content)", f"data.{name}.json"
        if split in NEVER or not resumed.is_deliberate(key, now, given):
            raise InputError(
                f"--resume: '{path}' has changed since the run was trained (its sha256 was {before[:12]}, it is "
                f"{now[:12]}). {_way_out(split, given, settings.json_)}"
            )
        resumed.accept(key, before, now)
        resumed.deliberate = True


def _datasets(config: Config) -> dict[str, tuple[str, DatasetSettings]]:
    """Return {entry of environment.json: (section of data, its settings)} of the labelled data."""
    data = config.data
    found = {"train": ("train", data.train), "val": ("val" if data.val else "source_val", data.evaluated)}
    if data.val is not None and data.source_val is not None:
        found["source_val"] = ("source_val", data.source_val)
    return found


def _check_new_classes(resumed: Resumed, path: Path) -> None:
    """Raise InputError with the way out if a class was added to an annotation file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["categories"]
        names = [str(row["name"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # its reader says what is wrong with it
    new = [name for name in names if name not in resumed.classes.names]
    if new and resumed.config.data.classes is None:
        weights = resumed.run / "checkpoints" / "best" / "model.safetensors"
        raise InputError(
            f"--resume: '{path}' now has the class {listing(new)}, which the run was not trained with. The classes of "
            f"a run are fixed. Start a new run with model.weights: {weights}; the other classes keep their rows. "
            "Or list the classes of this run in data.classes of a new config."
        )


def check_data(resumed: Resumed, now: Mapping[str, Any]) -> None:
    """Compare images and label maps with those of the run so far.

    now: the present "data" of environment.json.

    Raises InputError that names the section of the config.
    """
    before = resumed.trained["data"]
    names = {split: name for split, (name, _) in _datasets(resumed.config).items()}
    for split in sorted(before.keys() | now.keys()):
        section = names.get(split, split)
        for entry, what in _COMPARED.items():
            old, new = before.get(split, {}).get(entry), now.get(split, {}).get(entry)
            if old == new or (entry not in before.get(split, {}) and split in before):
                continue  # equal, or from a version that did not record it
            key = f"data.{section}.{what}"
            if split in NEVER or not resumed.is_deliberate(f"{key} (content)", new, key):
                raise InputError(
                    f"--resume: data.{section}.{what}: {_NAMED[entry]} (it was {_brief(old)}, it is {_brief(new)}). "
                    f"{_way_out(split, key, '…')}"
                )
            resumed.accept(f"{key} (content)", old, new)
            resumed.deliberate = True


_COMPARED = {"images": "images", "images_sha256": "images", "label_maps_sha256": "masks", "label_maps_content": "masks"}
_NAMED = {
    "images": "the number of images has changed",
    "images_sha256": "names or sizes of the image files have changed",
    "label_maps_sha256": "names or sizes of the label maps have changed",
    "label_maps_content": "the content of the label maps has changed",
}


def _brief(value: object) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _way_out(split: str, key: str, value: str) -> str:
    if split in NEVER:
        return "It selects the best checkpoint, so it must stay. Restore it, or start a new run."
    return f"Restore it, or go on with it on purpose: --set {key}={value}."


def check_environment(resumed: Resumed, now: Mapping[str, Any]) -> None:
    """Note other packages and another device. Raises InputError if the number of processes differs."""
    before, processes = resumed.trained, resumed.trained.get("processes", now["processes"])
    if processes != now["processes"]:
        raise InputError(
            f"--resume: the run was trained by {processes} processes, now there are {now['processes']}, so a step "
            f"would hold another number of images. Resume with torchrun --nproc-per-node {processes}, or start anew."
        )
    for key in NOTED:
        if key in before and before[key] != now[key]:
            old, new = before[key], now[key]
            if isinstance(old, dict) and isinstance(new, dict):
                for name in sorted(old.keys() | new.keys()):
                    if old.get(name) != new.get(name):
                        resumed.notes.append(f"{name} was {old.get(name)}, is {new.get(name)}")
            else:
                resumed.notes.append(f"{key} was {old}, is {new}")


def record(resumed: Resumed, session: Session, config: Config, data: Mapping[str, Any], console: Console) -> None:
    """Write the changes into environment.json, log.jsonl and config.yaml, and print them.

    config: the config to go on with.
    data:   the present "data" of environment.json.

    Sets `session.origin`, which every later checkpoint carries.
    """
    step = resumed.state["step"]
    before: list[Change] = resumed.environment.get("changes", [])
    changes = [change for change in before if change["step"] < step] + resumed.changes
    environment = {**resumed.environment, "data": dict(data)}
    if changes or before:
        environment["changes"] = changes
    session.origin = origin(config, environment)
    for note in resumed.notes:
        terminal.note(console, note)
    for change in resumed.changes:
        line = f"from step {step} on: {change['key']} is {_value(change['new'])} (was {_value(change['old'])})"
        terminal.note(console, line)
    if not session.context.is_main:
        return
    if environment != resumed.environment:
        write_json(resumed.run / "environment.json", environment, indent=1)
    new = [change for change in resumed.changes if change not in before]
    if new:
        with (resumed.run / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({"kind": "change", **change}) + "\n" for change in new))
    if resumed.changes:
        write_text(resumed.run / "config.yaml", session.origin["config.yaml"])


def origin(config: Config, environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that every checkpoint carries so that a resumed run can be compared with it."""
    return {"config.yaml": dump_config(config), "environment.json": json.dumps(environment, indent=1)}


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
