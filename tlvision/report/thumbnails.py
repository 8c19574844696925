"""JPEG files of a bounded size, and pictures as a part of a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from tlvision.types import Pixels

_QUALITIES = (85, 75, 60, 45, 30)


def jpeg(picture: Pixels | Image.Image, max_bytes: int) -> bytes:
    """Return a picture as JPEG of at most `max_bytes`: with a lower quality, then a smaller size, as far as it takes.

    picture: (H, W, 3) uint8 RGB.

    >>> import numpy as np
    >>> len(jpeg(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8), 9_000)) <= 9_000
    True
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes or max(image.size) <= 16:
                return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.LANCZOS)


def thumbnail(path: Path, *, side: int, max_bytes: int) -> str:
    """Return a picture file as a data URI; one that is longer than `side` pixels or larger is made smaller.

    Raises OSError or ValueError if the file is not a picture.
    """
    with Image.open(path) as image:
        image.load()
        if image.format == "JPEG" and max(image.size) <= side and path.stat().st_size <= max_bytes:
            return _uri(path.read_bytes())
        rgb = image.convert("RGB")
    rgb.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _uri(jpeg(rgb, max_bytes))


def data_uri(picture: Image.Image, max_bytes: int) -> str:
    """Return a picture as a data URI of a JPEG of at most `max_bytes`."""
    return _uri(jpeg(picture, max_bytes))


def _uri(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
