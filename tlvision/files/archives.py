"""Recognise archives, which are not read, by their first bytes, and say how to unpack them."""

from __future__ import annotations

from pathlib import Path

from tlvision.types import InputError

_STARTS = (
    (b"PK\x03\x04", "unzip"),
    (b"PK\x05\x06", "unzip"),
    (b"\x1f\x8b", "gunzip -k"),
    (b"BZh", "bunzip2 -k"),
    (b"\xfd7zXZ\x00", "unxz -k"),
    (b"\x28\xb5\x2f\xfd", "unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z x"),
    (b"Rar!\x1a\x07", "unrar x"),
)
"""First bytes of a file, and the command that unpacks it."""
_TAR, _TAR_AT = b"ustar", 257


def refuse_archive(path: Path, what: str) -> None:
    """Raise InputError with the command that unpacks it if `path` is an archive or a compressed file.

    path: may be absent, a folder or a pipe, which are no archives and are not opened.
    what: what to give instead, for the message: "the folder of the images in it".

    >>> import tempfile, zipfile
    >>> path = Path(tempfile.mkdtemp()) / "data.zip"
    >>> with zipfile.ZipFile(path, "w") as file:
    ...     file.writestr("a.txt", "a")
    >>> refuse_archive(path, "the folder in it")
    Traceback (most recent call last):
    tlvision.types.errors.InputError: '...data.zip' is an archive, which is not read. Unpack it (unzip data.zip) and ...
    """
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            start = file.read(_TAR_AT + len(_TAR))
    except (OSError, ValueError):  # what is wrong with the path is for the reader to say
        return
    command = next((command for magic, command in _STARTS if start.startswith(magic)), None)
    if start.startswith(_TAR, _TAR_AT) or (command and command != "unzip" and _is_tar_name(path.name.lower())):
        command = "tar xf"
    if command is not None:
        raise InputError(
            f"'{path}' is an archive, which is not read. Unpack it ({command} {path.name}) and give {what}."
        )


def _is_tar_name(name: str) -> bool:
    """Return whether the name is one of a compressed tar.

    >>> _is_tar_name("data.tar.gz"), _is_tar_name("data.tgz"), _is_tar_name("train.json.gz")
    (True, True, False)
    """
    return ".tar." in name or name.endswith((".tgz", ".tbz", ".tbz2", ".txz", ".tzst"))
