"""Find the images that a user means: files, folders with all that is below them, patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from tlvision.files.outputs import MANIFEST
from tlvision.formats.image_headers import SUFFIXES
from tlvision.types import InputError, counted, listing

_VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})


def find_images(given: Sequence[str | Path], *, leave_out: Path | None = None) -> tuple[list[Path], list[str]]:
    """Return the image files among `given` and in its folders, each once, and notes on skipped files.

    given:     files, folders, or patterns such as "images/*.png", which are expanded.
    leave_out: a folder whose files are not taken, because it gets the results. Folders that `tlvision predict` has
               written before are not taken either.

    Raises InputError if a path does not exist, is no image (with what to do instead), or a folder holds no image.
    """
    files: dict[Path, None] = {}
    others: list[Path] = []
    for item in given:
        for path in _expand(item):
            if path.is_dir():
                inside, rest = _in_folder(path, leave_out)
                files |= dict.fromkeys(inside)
                others += rest
            else:
                _check_file(path)
                files[path] = None
    notes = []
    if others:
        noun = counted(len(others), "file")
        notes.append(
            f"{noun} in the folders not of a known image type, left out: {listing([o.name for o in others], 3)}"
        )
    return list(files), notes


def existing(given: Sequence[str | Path]) -> list[Path]:
    """Return the entries of `given` that are existing files or folders, taken literally."""
    found = []
    for item in given:
        try:
            if Path(item).exists():
                found.append(Path(item))
        except (OSError, ValueError):
            continue
    return found


def _expand(item: str | Path) -> list[Path]:
    text = str(item)
    if "://" in text or text.startswith(("http:/", "https:/", "rtsp:/")):
        raise InputError(f"predict: '{text}' is an address; download the image and give its path")
    path = Path(item)
    try:
        if path.exists() or path.is_symlink():
            return [path]
        matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else []  # noqa: PTH207
    except (OSError, ValueError) as error:
        raise InputError(f"predict: '{text[:120]!s}' is no path ({error})") from None
    if matches:
        return [Path(match) for match in matches]
    if glob.has_magic(text):
        raise InputError(f"predict: no file matches '{text}'")
    if text.isdigit():
        raise InputError(f"predict: no file or folder '{text}'. A camera cannot be read; save its pictures as images")
    raise InputError(f"predict: no file or folder '{text}'")


def _check_file(path: Path) -> None:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"predict: '{path}' is not a regular file; give images or folders of images")
    if suffix in _VIDEOS:
        raise InputError(
            f"predict: '{path}' is a video. Cut it into images first, for example: ffmpeg -i {path.name} "
            f"frames/%06d.png"
        )
    if suffix not in SUFFIXES:
        raise InputError(
            f"predict: '{path}' is not of an image type that is read ({', '.join(sorted(SUFFIXES))}); convert it to "
            "PNG or JPEG"
        )


def _in_folder(folder: Path, leave_out: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the images in a folder and below, and the other files."""
    place = None if leave_out is None else leave_out.resolve()
    skipped = {path.parent.resolve() for path in folder.rglob(MANIFEST)} | ({place} if place is not None else set())
    inside: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or any(above in skipped for above in path.resolve().parents):
            continue
        (inside if path.suffix.lower() in SUFFIXES and path.is_file() else others).append(path)
    if not inside:
        raise InputError(f"predict: the folder '{folder}' holds no image ({', '.join(sorted(SUFFIXES))})")
    return inside, others
