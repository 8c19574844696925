"""Choose the number of loading processes of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from tlvision.data.processes import can_start
from tlvision.terminal import console, note

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def choose_workers(setting: int | Literal["auto"], fabric: Fabric) -> int:
    """Return the number of loading processes for each training process.

    auto: on a GPU, one less than the cores that this process may use, at most 8; on a CPU none, because they would
    take the cores away from the model. None, with a note, if processes are spawned and the code came from standard
    input, which they cannot read.

    Raises InputError if processes are spawned and the script has no `if __name__ == "__main__":`.
    """
    count = wanted_workers(setting, fabric)
    if can_start(count) == "yes":
        return count
    note(console(), "data.workers: code from standard input cannot start loading processes; images are loaded without")
    return 0


def wanted_workers(setting: int | Literal["auto"], fabric: Fabric) -> int:
    """Return the number of loading processes that `choose_workers` would choose if they can be started."""
    if setting != "auto":
        return setting
    if fabric.device.type == "cpu":
        return 0
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // local - 1))
