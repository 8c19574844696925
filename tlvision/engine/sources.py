"""Find the images and videos that a user means: files, folders with all that is below them, patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlvision.data import video
from tlvision.files.archives import refuse_archive
from tlvision.files.outputs import MANIFEST
from tlvision.formats.image_headers import SUFFIXES
from tlvision.types import InputError, counted, listing


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files to predict on, each once, in the order given, and notes on skipped files."""

    images: list[Path]
    videos: list[Path]
    notes: list[str]


def find_images(given: Sequence[str | Path], *, leave_out: Path | None = None) -> tuple[list[Path], list[str]]:
    """Return the image files among `given` and in its folders, each once, and notes on skipped files.

    Arguments and errors as for `find_inputs`; a video is an error as well, and in a folder a skipped file.
    """
    found = _find(given, leave_out, with_videos=False)
    return found.images, found.notes


def find_inputs(given: Sequence[str | Path], *, leave_out: Path | None = None) -> Inputs:
    """Return the image and video files among `given` and in its folders.

    given:     files, folders, or patterns such as "images/*.png", which are expanded.
    leave_out: a folder whose files are not taken, because it gets the results. Folders that `tlvision predict` has
               written before are not taken either.

    Raises InputError if a path does not exist, is neither image nor video (with what to do instead), or a folder holds
    none.
    """
    return _find(given, leave_out, with_videos=True)


def _find(given: Sequence[str | Path], leave_out: Path | None, *, with_videos: bool) -> Inputs:
    suffixes = SUFFIXES | video.SUFFIXES if with_videos else SUFFIXES
    files: dict[Path, None] = {}
    others: list[Path] = []
    for item in given:
        for path in _expand(item):
            if path.is_dir():
                inside, rest = _in_folder(path, leave_out, suffixes)
                files |= dict.fromkeys(inside)
                others += rest
            else:
                _check_file(path, suffixes)
                files[path] = None
    notes = []
    if others:
        noun = counted(len(others), "file")
        notes.append(
            f"{noun} in the folders not of a known image type, left out: {listing([o.name for o in others], 3)}"
        )
    videos = [path for path in files if path.suffix.lower() in video.SUFFIXES]
    return Inputs([path for path in files if path.suffix.lower() in SUFFIXES], videos, notes)


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


def is_address(item: str | Path) -> bool:
    """Return whether an item is an address, such as https://example.com/a.jpg, and no path."""
    text = str(item)
    return "://" in text or text.startswith(("http:/", "https:/", "rtsp:/"))


def _expand(item: str | Path) -> list[Path]:
    text = str(item)
    if is_address(item):
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


def _check_file(path: Path, suffixes: frozenset[str]) -> None:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"predict: '{path}' is not a regular file; give images or folders of images")
    if suffix in video.SUFFIXES - suffixes:
        raise InputError(
            f"'{path}' is a video. Cut it into images first, for example: ffmpeg -i {path.name} frames/%06d.png"
        )
    refuse_archive(path, "the images from it")
    if suffix not in suffixes:
        raise InputError(
            f"predict: '{path}' is not of a type that is read ({', '.join(sorted(suffixes))}); convert an image to "
            "PNG or JPEG"
        )


def _in_folder(folder: Path, leave_out: Path | None, suffixes: frozenset[str]) -> tuple[list[Path], list[Path]]:
    """Return the files in a folder and below that have one of the suffixes, and the other files."""
    place = None if leave_out is None else leave_out.resolve()
    skipped = {path.parent.resolve() for path in folder.rglob(MANIFEST)} | ({place} if place is not None else set())
    inside: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or any(above in skipped for above in path.resolve().parents):
            continue
        (inside if path.suffix.lower() in suffixes and path.is_file() else others).append(path)
    if not inside:
        raise InputError(f"predict: the folder '{folder}' holds no file to predict on ({', '.join(sorted(suffixes))})")
    return inside, others
