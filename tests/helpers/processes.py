"""Find processes by what their command line names."""

from __future__ import annotations

from pathlib import Path


def processes_of(path: Path) -> list[int]:
    """Return the processes whose command line has a path."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if str(path).encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found
