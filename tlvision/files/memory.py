"""Find how much memory programs may take, and keep Python from searching through all of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GIBIBYTE = 1024**3
_CONTAINER = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes that programs may still take: of the machine, or of the container where that is less."""
    free = _machine("MemAvailable")
    limit = _container_limit()
    if limit is None:
        return free
    try:
        used = int((_CONTAINER / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    return min(free, max(0, limit - used))


def total_memory() -> int:
    """Return the bytes that programs may take in all, in use or not: of the machine, or of the container if less."""
    total = _machine("MemTotal")
    limit = _container_limit()
    return total if limit is None else min(total, limit)


def _machine(key: str) -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 * GIBIBYTE
    return total if key == "MemTotal" else total // 2


def _container_limit() -> int | None:
    try:
        return int((_CONTAINER / "memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such container, or "max"
        return None


@contextmanager
def no_collection() -> Iterator[None]:
    """Stop Python's search for cycles of objects; also a decorator.

    It looks at all objects again and again while millions are made, a third of the time of reading a large json.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
