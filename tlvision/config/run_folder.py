"""The folder of a run: a new one, and what is read back from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.types import ClassMap, InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def read_classes(run: Path) -> ClassMap:
    """Return the classes of a run."""
    return ClassMap.from_json(json.loads(in_run(run, "classes.json").read_text(encoding="utf-8")))


def in_run(run: Path, name: str) -> Path:
    """Return the path of a file that every run has; InputError where `run` is not the folder of one."""
    path = run / name
    if not path.is_file():
        raise InputError(f"'{run}' is not the folder of a run: it has no {name}")
    return path


def new_folder(out: Path, fabric: Fabric) -> Path:
    """Return `out`, or `out-2`, `out-3` … where there is a run already; nothing is overwritten."""
    chosen = out
    if fabric.is_global_zero:
        number = 1
        while chosen.exists() and any(chosen.iterdir()):
            number += 1
            chosen = out.with_name(f"{out.name}-{number}")
        try:
            chosen.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run.out: the folder '{chosen}' cannot be made ({error.strerror})") from error
    return Path(fabric.broadcast(str(chosen), src=0))
