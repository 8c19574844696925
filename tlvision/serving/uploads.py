"""Read the images and options of a request: files in multipart, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from tlvision.serving.errors import RequestError
from tlvision.serving.settings import ServerSettings
from tlvision.types import counted
from tlvision.types.shown import clip, plain, shown

MULTIPART, JSON = "multipart/form-data", "application/json"
_LONGEST_NAME = 200
_LONGEST_FIELD = 1024  # bytes of a form field that is no file
_MOST_FIELDS = 8
_BAD, _LARGE = HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class JsonImage(BaseModel):
    """An image of a request in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: str = Field(description="base64 of an image file: JPEG, PNG, WebP, TIFF or BMP")
    name: str | None = Field(default=None, description="file name, which the answer repeats")


class JsonRequest(BaseModel):
    """A request in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: list[JsonImage] = Field(min_length=1)
    min_score: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="lowest score; the thresholds of the model if absent"
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a request, without references, which would point out of the description of an API."""
    schema = JsonRequest.model_json_schema()
    del schema["$defs"]
    schema["properties"]["images"]["items"] = JsonImage.model_json_schema()
    return schema


@dataclass(frozen=True, slots=True)
class Upload:
    """An image file of a request. name: as the client says, shortened, without control characters."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Uploads:
    """What a request asks for. min_score: 0..1, or None."""

    images: list[Upload]
    min_score: float | None


async def read_uploads(request: Request, settings: ServerSettings) -> Uploads:
    """Read the body of a request, no more than `settings.max_body` bytes of it.

    Raises RequestError: 413 for a body that is too large or too many images, 415 for another kind of body, 400 for one
    that cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {MULTIPART, JSON}:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The content type is {shown(kind)}. Send the images as files in {MULTIPART}, or as base64 in {JSON}.",
        )
    limited = Request(request.scope, _Limited(request, settings.max_body).receive)
    try:
        body = await limited.body()
        uploads = _from_json(body) if kind == JSON else await _from_form(limited, body)
    except ClientDisconnect:
        raise RequestError(_BAD, "The connection was closed before the end of the body. Send it again.") from None
    if len(uploads.images) > settings.max_images:
        raise RequestError(
            _LARGE,
            f"The request has {counted(len(uploads.images), 'image')}, more than {settings.max_images}. Send them in "
            "several requests.",
        )
    return uploads


class _Limited:
    """The messages of a request; RequestError (413) once its body exceeds a limit, whatever length it declares."""

    def __init__(self, request: Request, limit: int) -> None:
        self._receive, self._limit, self._size = request.receive, limit, 0
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise self._error()

    async def receive(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise self._error()
        return message

    def _error(self) -> RequestError:
        return RequestError(
            _LARGE, f"The body has more than {self._limit:,} bytes. Send smaller images, or fewer in a request."
        )


def _from_json(body: bytes) -> Uploads:
    try:
        content = JsonRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"'{clip(plain(place), 100)}': " if place else ""
        raise RequestError(
            _BAD,
            f"The JSON cannot be read: {where}{clip(first['msg'], 200)}. Send "
            '{"images": [{"data": BASE64, "name": NAME}], "min_score": NUMBER}; name and min_score may be absent.',
        ) from None
    images = []
    for number, image in enumerate(content.images, start=1):
        name = _name(image.name, number)
        images.append(Upload(name, _bytes_of(image.data, name)))
    return Uploads(images, content.min_score)


def _bytes_of(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        remedy = "Remove the prefix up to the comma." if text.startswith("data:") else "Encode the whole file."
        raise RequestError(_BAD, f"'{name}': the data are no base64 ({error}). {remedy}") from None


async def _from_form(request: Request, body: bytes) -> Uploads:
    _, _, boundary = request.headers["content-type"].partition("boundary=")
    end = b"--" + boundary.partition(";")[0].strip().strip('"').encode("latin-1") + b"--"
    if not body.rstrip().endswith(end):  # the parser leaves out a part that has no end
        raise RequestError(_BAD, "The multipart body has no end, or another boundary than its header. Send all of it.")
    images: list[Upload] = []
    min_score = None
    try:
        async with request.form(max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD) as form:
            for field, value in form.multi_items():
                if isinstance(value, UploadFile):
                    images.append(Upload(_name(value.filename, len(images) + 1), await value.read()))
                elif field == "min_score":
                    min_score = _score(value)
                else:
                    raise RequestError(
                        _BAD,
                        f"The form field {shown(field)} is not known. Fields are min_score, and files with any name; "
                        "a file needs a file name (curl: -F images=@photo.jpg).",
                    )
    except HTTPException as error:  # of the parser
        raise RequestError(_BAD, f"The multipart body cannot be read: {clip(plain(str(error.detail)), 200)}") from None
    if not images:
        raise RequestError(_BAD, "The form has no image. Send at least one file (curl: -F images=@photo.jpg).")
    return Uploads(images, min_score)


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise RequestError(_BAD, f"min_score must be a number from 0 to 1, got {shown(text)}.")
    return score


def _name(name: str | None, number: int) -> str:
    """Return the file name, safe to show; what no text in UTF-8 can hold becomes a question mark."""
    written = plain(name or f"image {number}").encode("utf-8", "replace").decode("utf-8")
    return clip(written, _LONGEST_NAME)
