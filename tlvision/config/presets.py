"""Find presets: configs that come with tlvision and are given by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "presets"
KINDS = ("start", "families", "methods", "data")
"""A first run without data of one's own; model families with tuned values; methods for any of them; where data lie."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A config that comes with tlvision.

    name:    how it is named in `base` and on the command line.
    kind:    one of `KINDS`.
    path:    its file.
    """

    name: str
    kind: str
    path: Path

    def purpose(self) -> str:
        """Return the comment at the top of the file, in one line."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return " ".join(lines)


@cache
def presets() -> dict[str, Preset]:
    """Return all presets by name, kind by kind.

    >>> presets()["mean_teacher"].kind
    'methods'
    """
    folders = {kind: FOLDER if kind == "start" else FOLDER / kind for kind in KINDS}
    return {
        path.stem: Preset(path.stem, kind, path)
        for kind, folder in folders.items()
        for path in sorted(folder.glob("*.yaml"))
    }
