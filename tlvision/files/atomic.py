"""Write files and folders whole or not at all, flushed to the disk before they take the place of older ones."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tlvision.types import InputError, RunError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write into; it takes the place of `path` once the block has ended without an error.

    The folder is made if it does not exist. Whatever ends the block early, Ctrl-C included, leaves `path` as it was and
    no temporary file. Raises OSError if something cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may write the same file. Mode "x" creates it with the rights of any new file.
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            _flush(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path, what: str = "checkpoint") -> Iterator[Path]:
    """Yield an empty folder to write into; it takes the place of `path` once the block has ended without an error.

    what: a noun for messages.

    A process killed at any moment leaves the old folder or the new one, at `path` or beside it, where `find_folder`
    finds it. All files are flushed before the folder is renamed. Raises RunError if the disk is full.
    """
    fresh, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        yield fresh
        sync_tree(fresh)
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            whole = f"; the earlier {what} in {path} is whole" if path.exists() else ""
            raise RunError(
                f"the disk is full: {path} could not be written{whole}; free space, then --resume"
            ) from error
        raise
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    fresh.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def find_folder(path: Path) -> Path:
    """Return `path`, or the complete folder that an interrupted `atomic_folder` left next to it.

    Raises InputError if there is neither.
    """
    for candidate in (path, path.with_name(f".{path.name}.old")):
        if candidate.is_dir():
            return candidate
    raise InputError(
        f"no checkpoint at '{path}'. A run writes its first one after its first epoch, or earlier with "
        "checkpoint: {every_steps: n}."
    )


def recover_folder(path: Path) -> Path:
    """Give the folder that `find_folder` finds its proper name and return it."""
    found = find_folder(path)
    if found != path:
        found.rename(path)
        sync_folder(path.parent)
    return path


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that `target` is whole at every moment. Raises RunError if it cannot be written."""
    try:
        with source.open("rb") as reading, atomic_file(target) as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
    except OSError as error:
        raise RunError(f"'{target}' cannot be written ({error.strerror or error}); free some space") from error


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder so that `target` is whole at every moment, or absent. Raises RunError if the disk is full."""
    with atomic_folder(target, "folder") as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)


def copy_any(source: Path, target: Path) -> None:
    """Copy a file or a folder so that `target` is whole at every moment. Raises RunError if it cannot be written."""
    (copy_folder if source.is_dir() else copy_file)(source, target)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself, to the disk."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            with (Path(root) / name).open("rb") as file:
                _flush(file.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, if the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders; some network file systems flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Pipes and some file systems cannot flush; a full or failing disk must be reported.
        if error.errno in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
            raise
