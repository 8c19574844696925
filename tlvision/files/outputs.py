"""The one rule for what commands write: no file is overwritten that tlvision did not write itself.

A command asks for its output folder with `output_folder` and for a single file with `check_file`, before it computes
anything. A folder that tlvision has written holds a list of its files (`.tlvision-output.json`, with size and time of
each). It may be written again as long as nothing else lies in it and nothing in it was changed since; then its old
files are removed first, so that results of two runs never mix. Any other folder that is not empty is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tlvision.files.json_files import write_json
from tlvision.types import InputError, listing
from tlvision.types.shown import clip

MANIFEST = ".tlvision-output.json"


@contextmanager
def output_folder(path: Path, command: str, *, inputs: Sequence[Path] = (), about: str = "") -> Iterator[Path]:
    """Yield a folder that is empty, or was written by `command` before and is emptied; list its files at the end.

    path:    the folder; it is made where it does not exist.
    command: what writes, for messages and for the list of files.
    inputs:  files and folders that are read. None of them may lie in the folder, or be it.
    about:   what the results are of (a json, for example); another `about` is refused.

    Raises InputError if the folder holds anything that `command` did not write, if one of its files was changed since,
    if it is a file, or if it holds an input or cannot be made.
    """
    check_folder(path, command, inputs=inputs, about=about)
    _empty(path)
    _make(path, command)
    try:
        yield path
    finally:
        _write_manifest(path, command, about)


def check_folder(path: Path, command: str, *, inputs: Sequence[Path] = (), about: str = "") -> None:
    """Raise InputError if `output_folder` would; changes nothing. Arguments as there."""
    try:
        place = path.resolve()
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{command}: '{_short(path)}' cannot be used as the output folder ({error})") from None
    for given in inputs:
        source = given.resolve()
        if source == place or source.is_relative_to(place):
            raise InputError(
                f"{command}: the output folder '{path}' holds the input '{given}', whose files could be overwritten. "
                "Give another folder"
            )
    if not exists:
        return
    if not path.is_dir():
        raise InputError(f"{command}: '{path}' is a file, not a folder; give another output folder")
    _check_owned(path, command, about)


def _check_owned(path: Path, command: str, about: str) -> None:
    present = _files_in(path)
    if not present:
        return
    manifest = read_manifest(path)
    if manifest is None or manifest.get("written_by") != command:
        raise InputError(
            f"{command}: the folder '{path}' is not empty, and 'tlvision {command}' did not write it: "
            f"{listing(present, 3)}. Give a new folder"
        )
    if manifest.get("about", "") != about:
        raise InputError(
            f"{command}: the folder '{path}' holds results of '{manifest.get('about')}', not of '{about}'. Give "
            "another folder"
        )
    written: dict[str, list[int]] = manifest["files"]
    foreign = [name for name in present if name not in written and name != MANIFEST]
    if foreign:
        raise InputError(
            f"{command}: the folder '{path}' holds files that tlvision did not write: {listing(foreign, 3)}. Move "
            "them, or give another folder"
        )
    changed = [name for name in present if name != MANIFEST and _stamp(path / name) != written[name]]
    if changed:
        raise InputError(
            f"{command}: files in '{path}' were changed since tlvision wrote them: {listing(changed, 3)}. Move them, "
            "or give another folder"
        )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the list of files of a folder that tlvision wrote; None if there is none, or it is damaged."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        return None
    return content


def _files_in(path: Path) -> list[str]:
    """Return everything in a folder that is no folder itself, relative to it."""
    entries = sorted(path.rglob("*"))
    return [entry.relative_to(path).as_posix() for entry in entries if entry.is_symlink() or not entry.is_dir()]


def _empty(path: Path) -> None:
    """Remove the content of a folder, all of which `check_folder` has found to be written by tlvision and unchanged."""
    if not path.is_dir():
        return
    for name in _files_in(path):
        (path / name).unlink()
    for folder in sorted((entry for entry in path.rglob("*")), key=lambda each: len(each.parts), reverse=True):
        folder.rmdir()


def _make(path: Path, command: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f"{MANIFEST}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{command}: the output folder '{_short(path)}' cannot be written ({error.strerror}); give another folder"
        ) from None


def _write_manifest(path: Path, command: str, about: str) -> None:
    files = {name: _stamp(path / name) for name in _files_in(path) if (path / name).is_file()}
    write_json(path / MANIFEST, {"written_by": command, "about": about, "files": files}, indent=1)


def _stamp(path: Path) -> list[int]:
    """Return size in bytes and time of the last change in nanoseconds; a changed file differs in one of them."""
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


def numbered_folder(path: Path, command: str, *, about: str) -> Path:
    """Return `path`, or `path-2`, `path-3` …: the first that `output_folder` accepts for results about `about`."""
    number = 1
    chosen = path
    while True:
        try:
            check_folder(chosen, command, about=about)
            return chosen
        except InputError:
            if number >= 1000:
                raise
            number += 1
            chosen = path.with_name(f"{path.name}-{number}")


def check_file(
    path: Path, command: str, *, inputs: Iterable[Path] = (), own_keys: Sequence[Collection[str]] = ()
) -> None:
    """Raise InputError if a single JSON file may not be written to `path`. Called before anything is computed.

    inputs:   files and folders that are read.
    own_keys: the keys of a file of this command, for each kind that it writes. The file may exist only if it is a JSON
              object with all keys of one kind.
    """
    try:
        place = path.resolve()
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
        parent = next((folder for folder in place.parents if folder.exists()), place.parent)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{command}: --output: '{_short(path)}' cannot be used as a file ({error})") from None
    if is_folder:
        raise InputError(f"{command}: --output: '{path}' is a folder; give the path of a file")
    for given in inputs:
        source = given.resolve()
        if place == source or (source.is_dir() and place.is_relative_to(source)):
            raise InputError(f"{command}: --output: '{path}' is or lies in the input '{given}'; give another file")
    if exists and not _has_own_keys(path, own_keys):
        raise InputError(
            f"{command}: --output: '{path}' exists, and 'tlvision {command}' did not write it. Give another "
            f"file, or remove it"
        )
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(
            f"{command}: --output: '{path}' cannot be written: '{parent}' is no folder that can be written"
        )


def _has_own_keys(path: Path, own_keys: Sequence[Collection[str]]) -> bool:
    try:
        content = json.loads(path.read_bytes()) if path.is_file() and not path.is_symlink() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and any(set(keys) <= set(content) for keys in own_keys)


def _short(path: Path) -> str:
    return clip(str(path).replace("\0", "\\0"), 120)
