"""Decoded images kept in memory, as many as a fixed number of bytes holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

GIBIBYTE = 1024**3

Pixels = npt.NDArray[np.uint8]
Key = TypeVar("Key", bound=Hashable)


class ImageCache:
    """A bounded store of arrays that nothing ever leaves.

    Training asks for every image equally often, so keeping the first that come is as good as any rule of
    replacement, and one that replaced would throw out what is needed next. What does not fit is decoded again each
    time; the encoded file is left to the operating system's own cache. What `get` returns does not depend on what is
    stored, so a result never depends on the memory of the machine.

    budget: bytes of pixels that may be kept; 0 keeps nothing.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._images: dict[Hashable, Pixels] = {}

    def __len__(self) -> int:
        return len(self._images)

    def get(self, key: Hashable, make: Callable[[], Pixels]) -> Pixels:
        """Return what is stored under `key`, or what `make()` returns, and keep that if it fits. Read-only."""
        found = self._images.get(key)
        if found is not None:
            return found
        image = make()
        image.flags.writeable = False  # a caller that wrote into it would change every later draw
        if self.used + image.nbytes <= self.budget:
            self._images[key] = image
            self.used += image.nbytes
        return image


def default_budget(processes: int = 1) -> int:
    """Return the bytes that the cache of one of `processes` may use: min(2 GiB, a quarter of what is free) / processes.

    >>> default_budget(4) <= default_budget(1) <= 2 * GIBIBYTE
    True
    """
    return min(2 * GIBIBYTE, available_memory() // 4) // max(1, processes)


def available_memory() -> int:
    """Return the bytes that programs may still take: of the machine, or of the container where that is less."""
    return min(_machine_memory(), _container_memory())


def _machine_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * GIBIBYTE


def _container_memory() -> int:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        return int(limit) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # no such container, or "max"
        return _machine_memory()
