"""Read size, EXIF orientation and bit depth of image files from their headers, without decoding a pixel."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from tlvision.types import InputError, counted, listing
from tlvision.types.shown import clip, is_encodable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Of file names that are images, in lower case."""
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Formats of `SUFFIXES` by their names in Pillow, whose other readers strangers have no access to."""
_ORIENTATION_TAG = 0x0112
_SAMPLES_TAG, _EXTRA_TAG = 277, 338  # of TIFF: channels of a pixel, and what those beyond the colours are
_ALPHA = {1, 2}  # values of the latter: multiplied with the colours, or not
_MOST_CHANNELS = 4  # that OpenCV decodes
_LONGEST = 1024
_LONGEST_SIDE = 1_000_000  # of libpng, which OpenCV decodes with
_MANY_PIXELS = (1 << 30) // 12  # a quarter of a GiB in three colours, from where Pillow warns
_THREADS = 8  # opening files waits for the disk, more than it computes
_AT_A_TIME = 64  # files a task, which is half of the time of one a task


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image file.

    width, height: in pixels, as stored, before any rotation.
    orientation:   EXIF orientation 1..8; 1 if there is none. 5..8 exchange width and height.
    bits:          of one value of a pixel, as stored: 8 (or fewer), 16 or 32.
    pages:         of a TIFF, or frames of a WebP.
    extra:         whether a TIFF has a channel that is neither colour nor alpha, e.g. near infrared; it is not read.
    damaged:       whether metadata cannot be read, which may hide an orientation; the pixels may be whole.
    """

    width: int
    height: int
    orientation: int
    bits: int = 8
    pages: int = 1
    extra: bool = False
    damaged: bool = False

    @property
    def rotated_size(self) -> tuple[int, int]:
        """Width and height after the EXIF rotation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(path: Path) -> Header:
    """Read one header.

    Raises FileNotFoundError where the file is absent, InputError if it is not an image that can be read.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        header = _read(path)
    damaged = any(not issubclass(each.category, Image.DecompressionBombWarning) for each in caught)
    return replace(header, damaged=damaged)


def parse_header(data: bytes, name: str, *, max_pixels: int) -> Header:
    """Read the header of an image file in memory, which a stranger may have sent; for any number of threads.

    data:       the file, in a format of `SUFFIXES`. name: of it, for messages.
    max_pixels: width times height at most, checked before anything is decoded.

    Pillow may warn of damaged metadata, which is not in the result.

    Raises ImageTooLargeError for more pixels, InputError if it is not an image that can be read.
    """
    stream = io.BytesIO(data)
    with _sentences(name, stream), Image.open(stream, formats=_FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise ImageTooLargeError(
                f"'{name}' has {image.width} x {image.height} pixels, more than {max_pixels:,}; reduce it"
            )
        return _header_of(image, name)


class ImageTooLargeError(InputError):
    """An image has more pixels than are allowed."""


def _read(path: Path) -> Header:
    """Read one header; Pillow warns of damaged metadata."""
    with _sentences(path, path):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise OSError("not a regular file")
        with Image.open(path) as image:
            return _header_of(image, path)


def _header_of(image: Image.Image, name: str | Path) -> Header:
    if max(image.size) > _LONGEST_SIDE:
        size = f"{image.width} x {image.height} pixels, a side may have {_LONGEST_SIDE:,}"
        raise InputError(f"'{name}' is too large ({size}); cut it into tiles")
    # getexif() costs as much as opening; formats other than TIFF say beforehand whether there is anything.
    has_exif = image.format == "TIFF" or "exif" in image.info
    orientation = image.getexif().get(_ORIENTATION_TAG, 1) if has_exif else 1
    if image.format == "TIFF" and orientation != 1:
        image.load()  # TIFF decoders rotate on their own and cannot be asked not to: what counts is the result
        orientation = 1
    # A JPEG may have a small picture for its preview, which is no page.
    pages = int(getattr(image, "n_frames", 1)) if image.format in {"TIFF", "WEBP"} else 1
    extra = _has_extra(image, name) if image.format == "TIFF" else False
    return Header(*image.size, orientation if orientation in range(1, 9) else 1, _bits(image), pages, extra)


def _has_extra(image: Any, name: str | Path) -> bool:
    """Return whether a TIFF has a channel that is neither colour nor alpha. InputError if it has more than four."""
    channels = int(image.tag_v2.get(_SAMPLES_TAG, 1))
    if channels > _MOST_CHANNELS:
        raise InputError(_channels_message(name, channels))
    kinds = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}  # Pillow takes a fourth channel without a kind for alpha
    return channels > kinds.get(image.mode, channels) and not _ALPHA.intersection(image.tag_v2.get(_EXTRA_TAG, ()))


def _channels_message(name: str | Path, channels: int) -> str:
    return (
        f"'{name}' has {channels} channels, and models see three. Save the channels to use as a grey or RGB image of 8 "
        "or 16 bits"
    )


def _channels_in(file: Path | io.BytesIO) -> int:
    """Return the channels of a TIFF that Pillow cannot open; 0 if it is no TIFF, or damaged."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2  # takes 30 ms, and is seldom needed

    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            stream.seek(0)
            tags = ImageFileDirectory_v2(stream.read(8))
            stream.seek(tags.next)
            tags.load(stream)
            return int(tags.get(_SAMPLES_TAG, 0))
    except Exception:  # damaged bytes make Pillow fail in many ways
        return 0


@contextmanager
def _sentences(name: str | Path, file: Path | io.BytesIO) -> Iterator[None]:
    """Turn what Pillow raises for a file into an InputError with its name."""
    try:
        yield
    except (FileNotFoundError, InputError, MemoryError):
        raise
    except UnidentifiedImageError:
        if (channels := _channels_in(file)) > 1:
            raise InputError(_channels_message(name, channels)) from None
        raise InputError(f"'{name}' is not an image that can be read; replace or remove it") from None
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"'{name}' is too large ({error}); cut it into tiles") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"'{name}' cannot be read as an image ({reason}); replace or remove it") from None
    except Exception as error:  # damaged bytes make Pillow fail in many ways
        raise InputError(f"'{name}' cannot be read as an image ({error}); replace or remove it") from None


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder and below, by name.

    Raises InputError for a broken link, a pipe or a device with the name of an image, and if a path is not text in
    UTF-8: a run writes names into json files and pages.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
    if odd := [path for path in paths if not path.is_file()]:
        raise InputError(
            f"{folder}: {counted(len(odd), 'image')} that is a broken link or no regular file: {listing(odd, 3)}; "
            "replace or remove it"
        )
    if wrong := [path for path in paths if not is_encodable(str(path))]:
        raise InputError(f"the name of the image {str(wrong[0])!r} is not text in UTF-8. Rename it.")
    return paths


def header_notes(paths: Sequence[Path], headers: Sequence[Header], origin: str) -> tuple[str, ...]:
    """Return a sentence each about files with several pages, damaged metadata or very many pixels, if there are any."""
    sized = [(path.name, header) for path, header in zip(paths, headers, strict=True)]
    kinds = {
        "with several pages, of which the first is read": [name for name, header in sized if header.pages > 1],
        "with a channel that is neither colour nor alpha, which is not read": [
            name for name, header in sized if header.extra
        ],
        "with damaged metadata, which is ignored (an EXIF rotation in it is lost)": [
            name for name, header in sized if header.damaged
        ],
        f"of more than {_MANY_PIXELS // 1_000_000} million pixels, 0.25 GiB or more each when decoded": [
            name for name, header in sized if header.width * header.height > _MANY_PIXELS
        ],
    }
    return tuple(
        f"{origin}: {counted(len(names), 'image')} {words}: {listing(names, 3)}"
        for words, names in kinds.items()
        if names
    )


def _bits(image: Image.Image) -> int:
    """Return the bits of one value; Pillow calls 16-bit colour "RGB" and has the depth only in its raw mode."""
    if image.mode in {"I", "F"}:
        return 32
    tile = getattr(image, "tile", None)
    raw = str(tile[0][3]) if tile else ""
    return 16 if image.mode.startswith("I;16") or ";16" in raw else 8


def _remedy(path: Path, folder: Path | None) -> str:
    """Return a hint where a missing file seems to be: under fewer folders, or in another folder."""
    parts = path.relative_to(folder).parts if folder is not None and path.is_relative_to(folder) else ()
    if folder is not None and parts:
        return nearby(folder, "/".join(parts)) or "check the image folder, or take them out of the json"
    return "check the paths"


def nearby(folder: Path, file_name: str) -> str:
    """Return a hint where the file of `file_name` is, if `folder` or its parent has it under another prefix."""
    if len(file_name) > _LONGEST:
        return ""
    parts = [part for part in file_name.replace("\\", "/").split("/") if part not in {"", "."}]
    for skipped in range(1, len(parts)):
        rest = "/".join(parts[skipped:])
        if ".." not in parts[skipped:] and (folder / rest).is_file():
            prefix = file_name[: len(file_name) - len(rest)]
            return f"'{folder / rest}' exists: remove '{clip(prefix, 200)}' from each file_name"
    for above in list(folder.resolve().parents)[:3]:
        if parts and ".." not in parts and above.joinpath(*parts).is_file():
            return f"'{above.joinpath(*parts)}' exists: give '{above}' as the image folder"
    return ""


def read_headers(paths: Sequence[Path], json_name: str, folder: Path | None = None) -> list[Header]:
    """Read the headers of all files, in order.

    json_name: for messages, the json that names the files.
    folder:    the image folder, in which a missing file is looked for under another prefix, for the message.

    Raises InputError with the count and the names of absent files, or naming the first file that cannot be read.
    """

    def header(path: Path) -> Header | None:
        try:
            return _read(path)
        except FileNotFoundError:
            return None

    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("always")
        parts = [paths[first : first + _AT_A_TIME] for first in range(0, len(paths), _AT_A_TIME)]
        headers = [found for part in pool.map(lambda part: [*map(header, part)], parts) for found in part]
    if caught:  # which file a warning is about is known one by one only
        headers = [found and read_header(path) for path, found in zip(paths, headers, strict=True)]
    missing = [path for path, found in zip(paths, headers, strict=True) if found is None]
    if missing:
        raise InputError(
            f"{json_name}: {len(missing)} of {len(paths)} image files do not exist: "
            f"{listing([str(path) for path in missing])}; {_remedy(missing[0], folder)}"
        )
    return [found for found in headers if found is not None]
