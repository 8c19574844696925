"""One label map: from a PNG to class indices, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from tlvision.files.inputs import check_file, exists
from tlvision.types import IGNORE_INDEX, InputError, LabelMapFile, Pixels, listing


def read_label_map(file: LabelMapFile) -> Pixels:
    """Return a label map: (height, width) uint8 class indices, IGNORE_INDEX if nothing is known.

    Raises InputError with the path where the file is absent, is no picture of the kind that `LabelMapFile` tells of, or
    has values that stand for no class.
    """
    raw = _read_coloured(file.path) if file.coloured else read_values(file.path)
    found = np.unique(raw) if file.coloured else np.flatnonzero(np.bincount(raw.ravel(), minlength=256))
    unknown = [int(value) for value in found if int(value) not in file.values]
    if unknown:
        raise InputError(_unknown_values(file, unknown))
    if file.coloured:
        indices = np.array([file.values[int(value)] for value in found], np.uint8)
        return indices[np.searchsorted(found, raw)]
    table = np.full(256, IGNORE_INDEX, np.uint8)
    for value, index in file.values.items():
        table[value] = index
    return table[raw]


def _unknown_values(file: LabelMapFile, unknown: Sequence[int]) -> str:
    show = _colour if file.coloured else str
    known = listing(show(value) for value in sorted(file.values) if file.values[value] != IGNORE_INDEX)
    ignored = listing(show(value) for value in sorted(file.values) if file.values[value] == IGNORE_INDEX) or "none"
    example = "{road: [128, 64, 128]}" if file.coloured else "{background: 0, crack: 255}"
    return (
        f"{file.path}: the label map has the value(s) {listing(map(show, unknown))}; the classes are {known}, and "
        f"{ignored} is for what is not known. Check the class list, set data.ignore_value, or list the classes with "
        f"their values, such as data.classes: {example}"
    )


def _colour(value: int) -> str:
    return f"{value} (colour [{value % 256}, {value // 256 % 256}, {value // 65536}])"


def write_label_map(path: Path | BinaryIO, labels: npt.NDArray[np.integer[Any]]) -> None:
    """Write (height, width) class indices 0..255 as a greyscale PNG."""
    # Level 1: label maps are flat, and a better compression takes four times as long for a tenth of the bytes.
    Image.fromarray(labels.astype(np.uint8)).save(path, "PNG", compress_level=1)


def read_values(path: Path) -> Pixels:
    """Return the values of a PNG with one channel, (height, width) uint8; of a palette, the indices.

    Raises InputError with the path.
    """
    with _open(path) as image:
        if image.mode not in {"L", "P", "1"}:
            raise InputError(
                f"{path}: expected a label map with one 8-bit value a pixel (a greyscale or palette PNG), got the mode "
                f"'{image.mode}' of {len(image.getbands())} channel(s); save class indices, or give "
                "colours: data.classes: {road: [128, 64, 128]}"
            )
        return np.asarray(_decoded(image, path)).astype(np.uint8)


def read_mask(path: Path) -> Pixels:
    """Return the values of a mask of one class, (height, width) uint8; of a picture in colour the largest channel.

    Raises InputError with the path.
    """
    with _open(path) as image:
        if image.mode not in {"L", "P", "1", "RGB", "RGBA", "LA"}:
            raise InputError(f"{path}: expected a mask of 8-bit values, got the mode '{image.mode}'")
        values = np.asarray(_decoded(image, path)).astype(np.uint8)
        colours = {"RGB": 3, "RGBA": 3, "LA": 1}.get(image.mode)  # the rest is how opaque a pixel is
        return values if colours is None else values[..., :colours].max(axis=2)


def _read_coloured(path: Path) -> npt.NDArray[np.int32]:
    with _open(path) as image:
        if image.mode not in {"RGB", "RGBA", "P"}:
            raise InputError(f"{path}: expected a PNG in colour (mode 'RGB' or a palette), got the mode '{image.mode}'")
        red, green, blue = np.moveaxis(np.asarray(_decoded(image, path).convert("RGB")).astype(np.int32), 2, 0)
    ids: npt.NDArray[np.int32] = red + 256 * green + 65536 * blue
    return ids


def _open(path: Path) -> Image.Image:
    if not exists(path):
        raise InputError(f"{path}: the label map does not exist")
    check_file(path, "a label map (PNG)")
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: the label map is too large ({error}); cut it and its image into tiles") from None
    except Exception as error:  # damaged bytes make Pillow fail in many ways
        raise InputError(f"{path}: not a picture that can be read ({error}); write it again") from None
    if image.format == "JPEG":
        image.close()
        raise InputError(f"{path}: the label map is a JPEG, which changes values. Save label maps as PNG.")
    return image


def _decoded(image: Image.Image, path: Path) -> Image.Image:
    try:
        image.load()
    except Exception as error:  # damaged bytes make Pillow fail in many ways
        raise InputError(f"{path}: the label map is damaged ({error}); write it again") from None
    return image
