"""Ways to damage or change the folder of a run, each a function of that folder; used by the tables beside it.

Every function that a row of a table calls returns `change(here)`, where `here` holds `run/` and `data/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tlvision.training.manifest import write_manifest

Change = Callable[[Path], None]
LAST = "run/checkpoints/last"


def nothing(here: Path) -> None:
    """Leave everything as it is."""


def both(*changes: Change) -> Change:
    def change(here: Path) -> None:
        for each in changes:
            each(here)

    return change


def config(**values: Any) -> Change:
    """Set keys of config.yaml; `train__lr=1` is train.lr."""

    def change(here: Path) -> None:
        path = here / "run/config.yaml"
        content = yaml.safe_load(path.read_text())
        for dotted, value in values.items():
            *sections, key = dotted.split("__")
            section = content
            for name in sections:
                section = section[name]
            assert key in section, dotted
            assert section[key] != value, f"{dotted} is {value} already"
            section[key] = value
        path.write_text(yaml.safe_dump(content))

    return change


def state(*, signed: bool = True, **values: Any) -> Change:
    """Set keys of the checkpoint's state.json; signed: with a manifest that fits, so that only the value is wrong."""

    def change(here: Path) -> None:
        path = here / LAST / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        if signed:
            write_manifest(path.parent)

    return change


def drop(name: str) -> Change:
    def change(here: Path) -> None:
        path = here / name
        assert path.exists(), name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def cut(name: str) -> Change:
    def change(here: Path) -> None:
        content = (here / name).read_bytes()
        assert len(content) > 1
        (here / name).write_bytes(content[: len(content) // 2])

    return change


def flip(name: str) -> Change:
    """Flip one bit of the last byte but one: of the data of a tensor file, of the text of JSON."""

    def change(here: Path) -> None:
        content = bytearray((here / name).read_bytes())
        content[-2] ^= 1
        (here / name).write_bytes(bytes(content))

    return change


def text(name: str, content: str | bytes) -> Change:
    def change(here: Path) -> None:
        assert (here / name).exists(), name
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def move(source: str, target: str) -> Change:
    def change(here: Path) -> None:
        (here / source).rename(here / target)

    return change


def document(name: str, edit: Callable[[Any], object]) -> Change:
    """Edit a JSON file in place."""

    def change(here: Path) -> None:
        content = json.loads((here / name).read_text())
        edit(content)
        (here / name).write_text(json.dumps(content))

    return change


def tensors(folder: str, edit: Callable[[dict[str, Any]], object], classes: str | None = None) -> Change:
    """Edit the weights of a checkpoint, and sign the folder; classes: other metadata."""

    def change(here: Path) -> None:
        path = here / folder / "model.safetensors"
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata())
        values = load_file(str(path))
        edit(values)
        save_file(values, str(path), metadata=metadata if classes is None else {"classes": classes})
        write_manifest(here / folder)

    return change


def old_format(here: Path) -> None:
    """Make the checkpoints those of a version without manifest, config and list of hooks."""
    for folder in (here / LAST, here / "run/checkpoints/best"):
        for name in ("manifest.json", "config.yaml", "environment.json"):
            (folder / name).unlink(missing_ok=True)
        path = folder / "state.json"
        content = json.loads(path.read_text())
        for key in ("format", "hooks", "select", "steps_per_epoch"):
            content.pop(key, None)
        path.write_text(json.dumps(content))


def move_a_box(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"][0] += 1


def add_a_class(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 91, "name": "grey"})
    content["annotations"][0]["category_id"] = 91


def fill(value: float) -> Any:
    return lambda state: next(tensor for tensor in state.values() if tensor.is_floating_point()).fill_(value)


def swap(content: dict[str, Any]) -> None:
    content["names"].reverse()
