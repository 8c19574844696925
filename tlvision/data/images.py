"""Decode an image file to 8-bit RGB, at reduced scale where that is enough, and notice when it is broken."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from tlvision.formats.bit_depth import decode
from tlvision.formats.image_headers import read_header
from tlvision.types import InputError, Pixels, RunError

"""(H, W, 3) uint8, RGB."""

_ORIENTATION = 0x0112
_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*")
_PNG = b"\x89PNG\r\n\x1a\n"
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_image(
    path: Path, width: int, height: int, exif: bool, *, min_size: tuple[int, int] | None = None, bits: int = 16
) -> tuple[Pixels, int]:
    """Decode one file.

    path:          the file, in any format of OpenCV. Greyscale becomes three equal channels, CMYK becomes RGB, a
                   palette is applied, an alpha channel is dropped.
    width, height: size in pixels that the decoded image must have.
    exif:          whether to apply the rotation that its EXIF header asks for (`Sample.exif`).
    min_size:      height and width in pixels that are enough; a JPEG is then decoded at 1/2, 1/4 or 1/8 if that is
                   still at least as large. None asks for full size.
    bits:          of a file with 16-bit values: how many are in use (`Sample.bits`). The upper 8 of them are kept.

    Returns the image and the reduction k: 1, 2, 4 or 8. A reduced image has ceil(height / k) x ceil(width / k) pixels,
    and each stands for exactly k x k of the full image (the last ones are partly padding).

    Raises InputError naming the file: absent, not an image, truncated, or of another size.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}); it was there when the run started") from None
    return decode_image(data, path, width, height, exif, min_size=min_size, bits=bits)


def decode_image(
    data: bytes,
    path: str | Path,
    width: int,
    height: int,
    exif: bool,
    *,
    min_size: tuple[int, int] | None = None,
    bits: int = 16,
) -> tuple[Pixels, int]:
    """Decode the content of one file; arguments, result and errors as for `read_image`. path: for messages."""
    if not looks_whole(data):
        _judge(path, data)
    reduction = _reduction(data, width, height, exif, min_size)
    image = _decode(path, data, exif, reduction, bits)
    expected = (-(-height // reduction), -(-width // reduction))
    if image.shape[:2] != expected:
        got = f"{image.shape[1] * reduction} x {image.shape[0] * reduction}"
        raise InputError(
            f"'{path}' is {got} pixels but {width} x {height} was expected; it has changed since, or its labels "
            f"are of another picture"
        )
    return image, reduction


def looks_whole(data: bytes) -> bool:
    """Return whether the end of the file is where its format expects it; False means truncated or an unknown format.

    Many versions of OpenCV fill the missing part of a JPEG or PNG with grey, without an error.
    """
    if data.startswith(_JPEG):
        # Within compressed data FF is always followed by 00 or a restart marker, so this is a true end of image.
        return data.rstrip(b"\x00\n\r ").endswith(b"\xff\xd9")
    if data.startswith(_PNG):
        return b"IEND\xaeB`\x82" in data[-64:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    return False


def _judge(path: str | Path, data: bytes) -> None:
    """Return whether Pillow's strict decoder accepts the file; some writers append data of their own."""
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make Pillow fail in many ways
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> InputError:
    return InputError(f"'{path}' is truncated or damaged ({error}); replace or remove it")


def _reduction(data: bytes, width: int, height: int, exif: bool, min_size: tuple[int, int] | None) -> int:
    if min_size is None or not data.startswith(_JPEG):
        return 1  # only JPEG can be decoded at reduced scale; for others OpenCV would decode all and drop pixels
    for k in (8, 4, 2):
        # A rotation may bring the partly padded last row or column to the front, where it would shift the image.
        if exif and (width % k or height % k):
            continue
        if -(-height // k) >= min_size[0] and -(-width // k) >= min_size[1]:
            return k
    return 1


def _decode(path: str | Path, data: bytes, exif: bool, reduction: int, bits: int) -> Pixels:
    if bits != 16 and (deep := _deep(data)) is not None:
        shallow = to_eight_bits(deep, bits)
        return _rotated(shallow, data) if exif else shallow
    # Whether OpenCV rotates other formats than JPEG depends on its version.
    if (exif and not data.startswith(_JPEG)) or _is_tiff_with_alpha(data):
        try:
            with PillowImage.open(io.BytesIO(data)) as stored:
                upright = ImageOps.exif_transpose(stored) if exif else stored
                return np.ascontiguousarray(upright.convert("RGB"), np.uint8)
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes make Pillow fail in many ways
            raise _damaged(path, error) from error
    flags = _REDUCED[reduction] | (0 if exif else cv2.IMREAD_IGNORE_ORIENTATION)
    image = decode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        _judge(path, data)
        raise InputError(f"'{path}' cannot be decoded by OpenCV, though it is an image; convert it to JPEG or PNG")
    # The reduced modes exist in BGR only.
    return image if reduction == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


def _is_tiff_with_alpha(data: bytes) -> bool:
    """Return whether OpenCV would multiply the colours of a file by its alpha."""
    if not data.startswith(_TIFF):
        return False
    try:
        with PillowImage.open(io.BytesIO(data)) as stored:
            return stored.mode in ("RGBA", "LA")
    except Exception:  # damaged, or a kind that Pillow does not know: OpenCV's decoder judges
        return False


def _deep(data: bytes) -> npt.NDArray[np.uint16] | None:
    """Return (H, W, 3) uint16 RGB where a file that is no JPEG has 16-bit values, as stored; else None."""
    if data.startswith(_JPEG):
        return None
    # Unchanged: with a colour flag OpenCV 5 gives wrong values for 16-bit TIFF files in colour.
    image: Any = decode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        return None
    grey = image[..., None] if image.ndim == 2 else image
    return np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else np.ascontiguousarray(grey[..., 2::-1])  # BGR(A)


def to_eight_bits(image: npt.NDArray[np.uint16], bits: int) -> Pixels:
    """Return the upper 8 of the `bits` in use, values beyond them as white; any shape.

    >>> to_eight_bits(np.array([0, 16, 4095, 65535], np.uint16), 12).tolist()
    [0, 1, 255, 255]
    """
    return (np.minimum(image, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)


def _rotated(image: Pixels, data: bytes) -> Pixels:
    """Return the image rotated by the EXIF orientation of its file."""
    with PillowImage.open(io.BytesIO(data)) as stored:
        plain = PillowImage.fromarray(image)
        plain.getexif()[_ORIENTATION] = stored.getexif().get(_ORIENTATION, 1)
        return np.ascontiguousarray(ImageOps.exif_transpose(plain), np.uint8)


def read_any_image(path: str | Path, *, exif: bool = True, bits: int = 16) -> Pixels:
    """Decode one file of any size, in full; otherwise as `read_image`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_image(path, np.zeros((2, 3, 3), np.uint8))
    >>> read_any_image(path).shape
    (2, 3, 3)
    """
    path = Path(path)
    try:
        header = read_header(path)
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist; give the path of an image file") from None
    width, height = header.rotated_size if exif else (header.width, header.height)
    return read_image(path, width, height, exif and header.orientation != 1, bits=bits)[0]


def as_rgb(image: object, *, bits: int = 16) -> Pixels:
    """Return any image in memory as (H, W, 3) uint8 RGB.

    image: a PIL image; or an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, whose alpha is dropped, of
           uint8, uint16, bool, or floats 0..1.
    bits:  of uint16 values: how many are in use.

    Raises InputError for anything else.

    >>> as_rgb(np.full((2, 3), 0.5)).shape, int(as_rgb(np.full((2, 3), 0.5))[0, 0, 0])
    ((2, 3, 3), 128)
    """
    if isinstance(image, PillowImage.Image):
        deep = image.mode.startswith("I;16")
        image = np.asarray(image if deep else ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"predict: expected the path of an image, a PIL image or an array, got {type(image).__name__}; "
            f"decode it first"
        )
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise InputError(
            f"predict: expected an array (H, W), (H, W, 3) or (H, W, 4), height first and colours last, got "
            f"{image.shape}"
        )
    pixels = _eight_bit_values(image, bits)
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    return np.ascontiguousarray(rgb)


def _eight_bit_values(image: npt.NDArray[np.generic], bits: int) -> Pixels:
    if image.dtype == np.uint8:
        return image  # type: ignore[return-value]
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    if image.dtype == np.uint16:
        return to_eight_bits(image, bits)  # type: ignore[arg-type]
    if np.issubdtype(image.dtype, np.floating):
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"predict: an array of floats must hold 0..1, got {low:g}..{high:g}; divide it by its maximum"
            )
        return np.rint(image.astype(np.float64) * 255).astype(np.uint8)
    raise InputError(f"predict: expected an array of uint8, uint16 or floats 0..1, got {image.dtype}")


def write_image(path: str | Path, image: Pixels) -> None:
    """Write an (H, W, 3) uint8 RGB image; the suffix of `path` chooses the format.

    Raises RunError if the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(image).save(path, quality=92)
    except OSError as error:
        raise RunError(
            f"'{path}' cannot be written ({error.strerror or error}); free some space or choose another"
        ) from error
