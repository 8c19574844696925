"""Find how many bits of 16-bit images are in use, so that 10- and 12-bit data keep their grey levels.

A camera of 12 bits writes values 0..4095 into 16-bit files. Dropping the lower byte would leave 16 grey levels. One
number of bits holds for a whole run: measured on the training images, stored in its config, used for validation and
prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.formats.image_headers import Header
from tlvision.types import InputError, counted, listing

FULL = 16
"""Bits of a file with 16-bit values, all of them in use."""
_THREADS = 8


def choose_bits(
    paths: Sequence[Path], headers: Sequence[Header], given: int | None, origin: str
) -> tuple[int | None, tuple[str, ...]]:
    """Return how many bits of 16-bit images are in use, and notes about it; (`given`, no note) if there are none.

    paths, headers: of all images.
    given:          the number of bits of the run, 8..16; None measures it on these images.
    origin:         for messages, the json or folder that the images belong to.

    Raises InputError if an image has 32-bit or floating-point values.
    """
    wide = [path for path, header in zip(paths, headers, strict=True) if header.bits > FULL]
    if wide:
        raise InputError(
            f"{origin}: {counted(len(wide), 'image')} with 32-bit or floating-point values: {listing(wide, 3)}; save "
            "with 8 or 16 bits"
        )
    deep = [path for path, header in zip(paths, headers, strict=True) if header.bits == FULL]
    if not deep:
        return given, ()
    with ThreadPoolExecutor(_THREADS) as pool:
        highest = list(pool.map(highest_value, deep))
    used = max(8, max(highest).bit_length())
    if given is None:
        return used, (
            f"{origin}: {counted(len(deep), 'image')} with 16-bit values, of which {used} bits are in use: "
            f"{_how(used)}",
        )
    beyond = [path.name for path, value in zip(deep, highest, strict=True) if value >= 1 << given]
    notes = [f"{origin}: {counted(len(deep), 'image')} with 16-bit values, read as {given} bits: {_how(given)}"]
    if beyond:
        notes.append(
            f"{origin}: {counted(len(beyond), 'image')} brighter than {given} bits can hold, clipped to white: "
            f"{listing(beyond)}; set data.bit_depth to {used} to keep them"
        )
    return given, tuple(notes)


def _how(bits: int) -> str:
    return f"values are divided by {1 << (bits - 8)}" if bits > 8 else "values are kept"


def highest_value(path: Path) -> int:
    """Return the highest value of any pixel; 0 if the file cannot be decoded, which is reported when it is loaded."""
    image = decode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return 0 if image is None else int(image[..., :3].max() if image.ndim == 3 else image.max())


def decode(data: npt.NDArray[np.uint8], flags: int) -> npt.NDArray[Any] | None:
    """Return the image in the bytes of a file, BGR or as `flags` of cv2.imdecode say; None if OpenCV cannot decode."""
    try:
        return cv2.imdecode(data, flags) if len(data) else None
    except cv2.error:  # sizes beyond its limits, not enough memory
        return None
