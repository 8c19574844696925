"""The manifest of a checkpoint: name, size and sha256 of every file, so that damage is found and named."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from tlvision.files.inputs import file_hash
from tlvision.files.json_files import read_object, write_json
from tlvision.types import InputError

NAME = "manifest.json"
SMALL = 1 << 20
"""Files up to this size (bytes) are hashed in the quick check as well."""


def write_manifest(folder: Path) -> None:
    """Write `manifest.json` about all other files below `folder`; called last, when they are complete."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / NAME
    }
    write_json(folder / NAME, {"files": files}, indent=1)


def check_manifest(folder: Path, remedy: str, needed: Iterable[str] = (), *, quick: bool = False) -> bool:
    """Compare a checkpoint with its manifest and return whether it has one (older versions wrote none).

    remedy: a sentence for the error: what to do about a damaged checkpoint.
    needed: names that must be there in any case.
    quick:  compare the sizes of all files but the content of small ones only.

    Raises InputError that names the file that is missing or changed.
    """
    for name in needed:
        if not (folder / name).is_file():
            raise InputError(f"checkpoint: '{folder / name}' is missing. {remedy}")
    if not (folder / NAME).exists():
        return False
    files = read_object(folder / NAME, remedy).get("files")
    if not isinstance(files, dict) or not all(_is_entry(*pair) for pair in files.items()):
        raise InputError(f"checkpoint: '{folder / NAME}' is damaged. {remedy}")
    unlisted = [name for name in needed if name not in files]
    if unlisted:
        raise InputError(f"checkpoint: '{folder / NAME}' is damaged: it does not list {unlisted[0]}. {remedy}")
    for name, entry in files.items():
        _check_file(folder / name, entry, remedy, quick=quick)
    return True


def _check_file(path: Path, entry: dict[str, Any], remedy: str, *, quick: bool) -> None:
    if not path.is_file():
        raise InputError(f"checkpoint: '{path}' is missing. {remedy}")
    size = path.stat().st_size
    if size != entry["size"]:
        raise InputError(f"checkpoint: '{path}' has {size} bytes, {entry['size']} were written. {remedy}")
    if not (quick and size > SMALL) and file_hash(path) != entry["sha256"]:
        raise InputError(f"checkpoint: '{path}' has changed since it was written (its sha256 differs). {remedy}")


def _is_entry(name: str, entry: object) -> bool:
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    return inside and isinstance(entry, dict) and isinstance(entry.get("size"), int) and "sha256" in entry
