"""Read a file of class names, or a colour table of a label tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tlvision.files.inputs import exists, read_text
from tlvision.types import IGNORE_INDEX, ClassMap, InputError
from tlvision.types.shown import shown

_MOST_BYTES = 1 << 20
_COLOUR = re.compile(r"(?P<name>.+?)\s*[:,;\t]\s*(?P<red>\d+)\s*,\s*(?P<green>\d+)\s*,\s*(?P<blue>\d+)\s*(:.*)?")
"""A line of a colour table: CVAT and VOC `road:128,64,128::`, CamVid `road,128,64,128`."""


def read_class_file(path: str | Path) -> dict[str, int | tuple[int, int, int]]:
    """Read the classes of label maps: {name: value or (red, green, blue) in the label maps}.

    path: one class name a line; the number of a line, from 0, is the value. Or a colour table: a name, `:` or `,`, and
          red, green and blue, as CVAT's `labelmap.txt` and CamVid's `class_dict.csv` have them; a line with `#` or the
          heading `name, r, g, b` is not read.

    Raises InputError: no such file, no text in UTF-8, no name, an empty line between names, a name or a colour twice.
    """
    path = Path(path)
    if not exists(path):
        raise InputError(f"data.classes: no file '{path}'; give a text file with one class name a line")
    text = read_text(path, "a text file with one class name a line", max_bytes=_MOST_BYTES)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if binary := [line for line in lines if not line.replace("\t", " ").isprintable()]:
        raise InputError(f"{path}: the class name {shown(binary[0])} has control characters. Write plain text.")
    coloured = [line for line in lines if line and not line.startswith("#") and not _is_heading(line)]
    if coloured and all(_COLOUR.fullmatch(line) for line in coloured):
        return _colours(path, coloured)
    for number, name in enumerate(lines, 1):
        if not name:
            raise InputError(f"{path}, line {number}: expected a class name, got an empty line; the line is the value")
    if not 0 < len(lines) <= IGNORE_INDEX:
        raise InputError(f"{path}: expected 1 to {IGNORE_INDEX} class names, got {len(lines)}")
    _check(path, lines, range(len(lines)))
    return {name: value for value, name in enumerate(lines)}


def _is_heading(line: str) -> bool:
    return [part.strip().lower() for part in line.split(",")][1:] in (["r", "g", "b"], ["red", "green", "blue"])


def _colours(path: Path, lines: Sequence[str]) -> dict[str, int | tuple[int, int, int]]:
    found = [_COLOUR.fullmatch(line) for line in lines]
    rows = [(match["name"], tuple(int(match[key]) for key in ("red", "green", "blue"))) for match in found if match]
    for name, colour in rows:
        if max(colour) > 255:
            raise InputError(f"{path}: the colour of '{name}' is {list(colour)}; each value is from 0 to 255")
    _check(path, [name for name, _ in rows], [red + 256 * green + 65536 * blue for _, (red, green, blue) in rows])
    return {name: (red, green, blue) for name, (red, green, blue) in rows}


def _check(path: Path, names: Sequence[str], ids: Sequence[int]) -> None:
    try:
        ClassMap(tuple(names), tuple(ids))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
