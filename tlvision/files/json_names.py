"""Check file names that come from a json before anything is read or written under them."""

from __future__ import annotations

import os.path
from pathlib import Path, PurePosixPath, PureWindowsPath

_LONGEST_NAME = 1024


def unsafe_name(file_name: str) -> str:
    """Say why a file name from a json may not be used; empty if it stays inside its folder.

    >>> unsafe_name("a/b.png"), unsafe_name("a/../../b.png"), unsafe_name(".")
    ('', 'leaves its folder', 'is the folder itself')
    """
    slashed = file_name.replace("\\", "/")
    if not file_name.strip():
        return "is empty"
    if "\0" in file_name or len(file_name) > _LONGEST_NAME:
        return "is not a file name"
    normal = os.path.normpath(slashed)
    absolute = PurePosixPath(slashed).is_absolute() or PureWindowsPath(file_name).drive
    if absolute or Path(normal).parts[:1] == ("..",):
        return "leaves its folder"
    return "is the folder itself" if normal == "." else ""
