"""Read files that a user names: only regular files are opened, and every failure is one sentence."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tlvision.files.archives import refuse_archive
from tlvision.files.memory import total_memory
from tlvision.types import InputError, listing
from tlvision.types.shown import is_encodable


def check_file(path: str | Path, what: str) -> Path:
    """Return `path` if it is a regular file (or a link to one), without opening it.

    what: kind of the file, for messages: "a config", "a weight file".

    Raises InputError: absent, a folder, a pipe or a device (opening those can block for ever), not a path at all.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist. Give the path of {what}.") from None
    except OSError as error:
        raise InputError(f"'{_short(path)}' cannot be read ({error.strerror}). Give the path of {what}.") from None
    except ValueError:
        raise InputError(f"{_short(path)!r} is not a path. Give the path of {what}.") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"'{path}' is {_kind(mode)}. Give the path of {what}.")
    return path


def read_bytes(path: str | Path, what: str, *, max_bytes: int | None = None) -> bytes:
    """Return the content of a file; arguments and errors as for `check_file`.

    max_bytes: largest size in bytes that is read; a larger file is an InputError, and one that the memory cannot hold.
    """
    path = check_file(path, what)
    try:
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise InputError(f"'{path}' has {size:,} bytes. Expected {what} of at most {max_bytes:,} bytes.")
        if size > _LARGE and size > total_memory() // 2:  # the bytes, and at least as much for what they become
            raise too_large(path, what)
        return path.read_bytes()
    except MemoryError:
        raise too_large(path, what) from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}). Give the path of {what}.") from None


def too_large(path: Path, what: str) -> InputError:
    """Return the error of a file that does not fit into memory."""
    size = path.stat().st_size
    return InputError(
        f"'{path}' has {size:,} bytes, too many for the memory of this machine. Divide {what} into parts."
    )


def check_folder(path: Path, what: str, more: str = "") -> None:
    """Raise InputError unless `path` is a folder; for an archive it says how to unpack it.

    what: kind of the folder, for messages: "the image folder". more: end of the sentence about one that is absent.
    """
    if not path.is_dir():
        refuse_archive(path, f"{what} from it")
        raise InputError(f"{what} '{path}' does not exist{more}")


def check_inside(folder: Path, paths: Sequence[Path], origin: str) -> None:
    """Raise InputError if the file of a path below `folder` lies elsewhere because of a symbolic link.

    folder: may be a link itself. origin: file or folder that names the paths, for the message.
    """
    root = os.path.realpath(folder)

    def is_inside(path: Path) -> bool:
        return f"{os.path.realpath(path)}{os.sep}".startswith(f"{root.rstrip(os.sep)}{os.sep}")

    known: dict[Path, bool] = {}
    outside = []
    for path in paths:
        parent = path.parent
        if parent not in known:
            known[parent] = is_inside(parent)
        if not known[parent] or (os.path.islink(path) and not is_inside(path)):  # noqa: PTH114, is_symlink fails on long names
            outside.append(path)
    if outside:
        shown = [f"{os.path.relpath(path, folder)} -> {os.path.realpath(path)}" for path in outside]
        raise InputError(
            f"{origin}: {len(outside)} of {len(paths)} files leave the folder '{folder}' by a symbolic link: "
            f"{listing(shown, 3)}; copy the files into it (cp -rL copies what links lead to)"
        )


def read_text(path: str | Path, what: str, *, max_bytes: int | None = None) -> str:
    """Return the content of a UTF-8 file, with or without a byte order mark; otherwise as `read_bytes`.

    Raises InputError with the number of the byte that is not UTF-8, or if there is a NUL byte: it is no text file.
    """
    data = read_bytes(path, what, max_bytes=max_bytes)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{path}' is not a text file in UTF-8 (byte {error.start} is 0x{data[error.start]:02x}). Expected {what}. "
            "Save it again as UTF-8."
        ) from None
    if "\0" in text:
        raise InputError(f"'{path}' is not a text file (byte {data.index(0)} is NUL). Expected {what}.")
    return text


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's content as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exists(path: str | Path) -> bool:
    """Return whether anything exists at `path`; False also for a text that is no path at all."""
    try:
        Path(path).lstat()
    except (OSError, ValueError):
        return False
    return True


def path_problem(path: str) -> str:
    """Return why a text cannot be the path of a file or folder; empty if it can.

    >>> path_problem("runs/a"), path_problem(" "), path_problem("a\\0b")
    ('', 'is empty', 'holds a NUL character')
    """
    if not path.strip():
        return "is empty"
    if "\0" in path:
        return "holds a NUL character"
    if not is_encodable(path):
        return "is not text in UTF-8"
    encoded = os.fsencode(path)
    if len(encoded) > _LONGEST_PATH or any(len(part) > _LONGEST_PART for part in encoded.split(b"/")):
        return f"is too long ({len(encoded)} bytes)"
    return ""


_LARGE = 1 << 28  # bytes, from where the memory is asked for
_LONGEST_PATH = 4096
_LONGEST_PART = 255


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "not a regular file"
