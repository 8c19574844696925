"""Image files that are no image, claim sizes that they do not have, or break off."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from poison.dataset import SIZE, Build, Case, coco, decode, drop_sizes, read_boxes


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"", *, bits: int = 8, colour: int = 2) -> bytes:
    """Return a PNG whose header claims a size, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bmp(width: int, height: int) -> bytes:
    """Return the header of a BMP."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a TIFF of these tags (tag, type, count, value)."""
    rows = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + struct.pack("<I", following) + bytes(4000)


def tiff_sized(width: int, height: int, following: int = 0, *more: tuple[int, int, int, int]) -> bytes:
    """Return a grey TIFF that claims a size."""
    plain = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200))
    return tiff(*plain, (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 960), *more, following=following)


def tiff_of_channels(count: int) -> bytes:
    """Return a sound black TIFF of so many channels of 8 bits, those beyond three without a meaning."""
    width, height = SIZE
    tags = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, count, 300), (259, 3, 1, 1), (262, 3, 1, 2))
    rest = ((273, 4, 1, 400), (277, 3, 1, count), (278, 4, 1, height), (279, 4, 1, count * width * height))
    data = tiff(*tags, *rest, (338, 3, count - 3, 0)) + bytes(count * width * height)
    return data[:300] + struct.pack(f"<{count}H", *[8] * count) + data[300 + 2 * count :]


def two_pages() -> bytes:
    """Return a TIFF of two pages, the second one without a size."""
    first = tiff_sized(*SIZE, 1000)
    return first[:1000] + struct.pack("<HHHIII", 1, 258, 3, 1, 8, 0) + first[1000:]


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """Return a sound file of noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


def jpeg_claiming(width: int, height: int) -> bytes:
    """Return a JPEG whose header claims a size."""
    data = encoded("JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def webp_claiming(width: int, height: int) -> bytes:
    """Return the header of an extended WebP that claims a size."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def damaged_exif() -> bytes:
    """Return a JPEG whose EXIF data break off."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    data = exif.tobytes()
    return encoded("JPEG", exif=data[: len(data) - 8])


def damaged_exif_pixels() -> bytes:
    """Return a PNG with an EXIF rotation whose pixels break off."""
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded("PNG", exif=exif.tobytes())
    place = data.index(b"IDAT") + 4
    return data[:place] + bytes(40) + data[place + 40 :]


def replaced(data: bytes, name: str = "a.png") -> Build:
    """Return a builder of the dataset in which one image has other bytes; the json says no sizes."""

    def build(folder: Path) -> None:
        coco(drop_sizes)(folder)
        (folder / "images" / name).write_bytes(data)

    return build


def cut(data: bytes, share: float) -> bytes:
    """Return the beginning of a file."""
    return data[: int(len(data) * share)]


TOO_LARGE = "a.png' is too large ("
NO_IMAGE = "a.png' is not an image that can be read"
HEADERS: list[tuple[str, bytes, str]] = [
    ("a PNG of 10^10 pixels", png(100_000, 100_000), TOO_LARGE),
    ("a PNG of 10^9 pixels", png(31_623, 31_623), TOO_LARGE),
    ("a PNG of 4 x 10^18 pixels", png(2**31 - 1, 2**31 - 1), TOO_LARGE),
    ("a PNG of 10^9 pixels with one bit each", png(31_623, 31_623, bits=1, colour=0), TOO_LARGE),
    ("a PNG of one row of 1,100,000 pixels", png(1_100_000, 1), "a.png' is too large (1100000 x 1 pixels"),
    ("a PNG of one column of 1,100,000 pixels", png(1, 1_100_000), "a.png' is too large (1 x 1100000 pixels"),
    ("a PNG of no width", png(0, 24), NO_IMAGE),
    ("a PNG of 3 bits", png(*SIZE, bits=3), NO_IMAGE),
    ("a PNG of colour type 9", png(*SIZE, colour=9), NO_IMAGE),
    ("a JPEG of 4 x 10^9 pixels", jpeg_claiming(65_500, 65_500), TOO_LARGE),
    ("a BMP of 10^9 pixels", bmp(31_623, 31_623), TOO_LARGE),
    ("a BMP of a negative size", bmp(-5, 5), "a.png'"),
    ("a TIFF of 10^9 pixels", tiff_sized(31_623, 31_623), TOO_LARGE),
    ("a TIFF without a size", tiff((258, 3, 1, 8)), NO_IMAGE),
    ("a TIFF whose second page has no size", two_pages(), "a.png' cannot be read as an image"),
    ("a WebP of 2.8 x 10^14 pixels", webp_claiming(2**24, 2**24), "a.png'"),
    ("a TIFF of floats", encoded("TIFF", "F"), "labels.json: 1 image with 32-bit or floating-point values"),
    ("a TIFF of five channels", tiff_of_channels(5), "a.png' has 5 channels, and models see three"),
    ("a TIFF of nine channels", tiff_of_channels(9), "a.png' has 9 channels, and models see three"),
    ("nothing", b"", NO_IMAGE),
    ("a text", b"not an image", NO_IMAGE),
    ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_IMAGE),
    ("PDF", b"%PDF-1.7\n", NO_IMAGE),
    ("a zip", b"PK\3\4" + bytes(60), NO_IMAGE),
    ("ten bytes of a PNG", encoded("PNG")[:10], "a.png'"),
    ("20 bytes of a JPEG", encoded("JPEG")[:20], NO_IMAGE),
    ("60 bytes of a TIFF", encoded("TIFF")[:60], "a.png'"),
    ("12 bytes of a WebP", encoded("WEBP")[:12], "a.png'"),
]
PIXELS: list[tuple[str, bytes, str]] = [
    ("a PNG without pixels", png(*SIZE), "a.png' is truncated or damaged"),
    ("a PNG that breaks off", cut(encoded("PNG"), 0.7), "a.png' is truncated or damaged"),
    ("a PNG with a wrong sum", encoded("PNG")[:60] + b"\0\0\0" + encoded("PNG")[63:], "a.png'"),
    ("a PNG with a rotation whose pixels break off", damaged_exif_pixels(), "a.png' is truncated or damaged"),
    ("a JPEG that breaks off", cut(encoded("JPEG"), 0.7), "a.png' is truncated or damaged"),
    ("a WebP that breaks off", cut(encoded("WEBP"), 0.7), "a.png' cannot be read as an image"),
    ("a BMP that breaks off", cut(encoded("BMP"), 0.7), "a.png' is truncated or damaged"),
    ("a TIFF that breaks off", cut(encoded("TIFF"), 0.3), "a.png'"),
]
NOTES: list[tuple[str, bytes, str]] = [
    ("a TIFF of three pages", encoded("TIFF", save_all=True, append_images=[Image.new("RGB", SIZE)] * 2),
     "labels.json: 1 image with several pages, of which the first is read: a.png"),
    ("a TIFF of red, green, blue and infrared", tiff_of_channels(4),
     "1 image with a channel that is neither colour nor alpha, which is not read: a.png"),
    ("EXIF data that break off", damaged_exif(), "labels.json: 1 image with damaged metadata, which is ignored"),
    ("a TIFF whose pages lead to each other", tiff_sized(*SIZE, 8), "width or height is missing and was taken"),
    ("a TIFF with a tag of 4 GB", tiff_sized(*SIZE, 0, (270, 2, 2**32 - 1, 500)), "1 image with damaged metadata"),
    ("a PNG of 144,000,000 pixels", png(12_000, 12_000, bits=1, colour=0),
     "labels.json: 1 image of more than 89 million pixels, 0.25 GiB or more each when decoded: a.png"),
    ("a PNG of 16 bits", encoded("PNG", "I;16"), "labels.json: 1 image with 16-bit values, of which"),
]  # fmt: skip
CASES = [Case(name, replaced(data), read_boxes, words) for name, data, words in HEADERS]
CASES += [Case(name, replaced(data), decode, words) for name, data, words in PIXELS]
CASES += [Case(name, replaced(data), read_boxes, words, noted=True) for name, data, words in NOTES]
