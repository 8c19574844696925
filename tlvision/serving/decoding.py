"""From an image file of a stranger to a network input, by the rules of training."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from tlvision.formats.bit_depth import FULL
from tlvision.formats.coco import unlabelled_sample
from tlvision.formats.image_headers import ImageTooLargeError, parse_header
from tlvision.runtime.model import RuntimeModel
from tlvision.runtime.prepared import PreparedImage
from tlvision.serving.errors import RequestError
from tlvision.types import InputError


def prepare_file(model: RuntimeModel, data: bytes, name: str, max_pixels: int) -> PreparedImage:
    """Decode an image file, and bring it to the size of the network input.

    data: JPEG, PNG, WebP, TIFF or BMP; EXIF rotations are applied, an alpha channel is dropped, values of 16 bits are
          read with the bits of the training data. name: for messages, and of the sample. max_pixels: width times height
          at most, checked before decoding.

    Raises RequestError: 413 for too many pixels, 422 if the file is empty, damaged or no image.
    """
    if not data:
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, f"'{name}' has 0 bytes. Send the content of an image file.")
    try:
        header = parse_header(data, name, max_pixels=max_pixels)
        if header.bits > FULL:
            raise InputError(f"'{name}' has 32-bit or floating-point values. Save it with 8 or 16 bits.")
        return model.prepare_image(unlabelled_sample(1, Path(name), header, model.bits or FULL), data)
    except ImageTooLargeError as error:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _sentence(error)) from None
    except InputError as error:
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, _sentence(error)) from None


def _sentence(error: InputError) -> str:
    return str(error).rstrip(".") + "."
