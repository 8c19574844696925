"""Make names for output files: unique, also where upper and lower case are one, and inside their folder."""

from __future__ import annotations

import os.path
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that contains all files, so that names relative to it are distinct.

    >>> common_folder([Path("/a/day1/cam.jpg"), Path("/a/day2/cam.jpg")]).as_posix()
    '/a'
    """
    folders = {os.path.abspath(path.parent) for path in paths}  # noqa: PTH100 (links stay as they are)
    try:
        return Path(os.path.commonpath(list(folders)))
    except ValueError:  # two drives
        return Path()


def relative_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return the path of each file relative to `folder`, with forward slashes and always without "..".

    >>> relative_names([Path("/a/b/c.png"), Path("/x/d.png")], Path("/a"))
    ['b/c.png', 'x/d.png']
    """
    names = []
    for path in paths:
        place = Path(os.path.abspath(path))  # noqa: PTH100
        inside = place.relative_to(folder) if place.is_relative_to(folder) else place.relative_to(place.anchor)
        names.append(inside.as_posix())
    return names


def stems_in(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return `unique_stems` of the files in a folder, as names of results computed for each of them."""
    return unique_stems(relative_names(paths, Path(os.path.abspath(folder))))  # noqa: PTH100


def unique_stems(names: Sequence[str]) -> list[str]:
    """Return a unique name without suffix for each file, safe on file systems that ignore case.

    names: paths relative to one folder, with suffixes and forward slashes; no two equal.

    Files that differ in their suffix only get it as a part of the name; what is equal then still gets a number. Linear
    in the number of names, and the same for the same list.

    >>> unique_stems(["a.jpg", "b/a.jpg", "b/A.png", "c.png"])
    ['a', 'b/a_jpg', 'b/A_png', 'c']
    """
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[_key(stem)] = counts.get(_key(stem), 0) + 1
    taken = {_key(stem) for stem in stems if counts[_key(stem)] == 1}
    found = []
    for name, stem in zip(names, stems, strict=True):
        chosen = stem
        if counts[_key(stem)] > 1:
            suffix = PurePosixPath(name).suffix.removeprefix(".")
            chosen = _free(f"{stem}_{suffix}" if suffix else stem, taken, counts)
            taken.add(_key(chosen))
        found.append(chosen)
    return found


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _free(name: str, taken: set[str], numbers: dict[str, int]) -> str:
    """Return `name`, or `name-2` and so on; `numbers` remembers where to go on, so that many clashes stay linear."""
    if _key(name) not in taken:
        return name
    key = f"\0{_key(name)}"
    number = numbers.get(key, 2)
    while _key(f"{name}-{number}") in taken:
        number += 1
    numbers[key] = number + 1
    return f"{name}-{number}"
