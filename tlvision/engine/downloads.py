"""Download images from http and https addresses, only if the user asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib import error, request
from urllib.parse import SplitResult, quote, unquote, urlsplit

from PIL import Image

from tlvision.data import video
from tlvision.data.images import read_any_image
from tlvision.formats.image_headers import SUFFIXES
from tlvision.types import InputError

_SCHEMES = ("http", "https")
_HEADERS = {"User-Agent": "tlvision"}  # some servers refuse Python's own name
_CHUNK = 1 << 16
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Limits of one download.

    num_bytes: size of the file.
    silence:   seconds that the server may take for each part of its answer.
    seconds:   for all of it.
    """

    num_bytes: int = 50 << 20
    silence: float = 10.0
    seconds: float = 120.0


LIMITS = DownloadLimits()


def download_images(
    addresses: Sequence[str], folder: Path, limits: DownloadLimits = LIMITS
) -> tuple[list[Path], list[tuple[str, InputError]]]:
    """Download images to <folder>/<host>/<name>, and return the files, and the other addresses with the reason.

    addresses: http or https; a redirect to anything else is not followed.
    """
    files: list[Path] = []
    problems: list[tuple[str, InputError]] = []
    for address in dict.fromkeys(addresses):
        try:
            files.append(_download(address, folder, limits))
        except InputError as problem:
            problems.append((address, problem))
    return files, problems


def _download(address: str, folder: Path, limits: DownloadLimits) -> Path:
    """Return the file of one image, which is decoded once; InputError with the reason if there is none."""
    parts = _parse(address)
    if PurePosixPath(parts.path).suffix.lower() in video.SUFFIXES:
        raise InputError("videos are not downloaded; download it yourself and give its path")
    content, kind = _fetch(parts.geturl(), limits)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(unquote(parts.path)).name)[-_LONGEST_NAME:].lstrip(".")
    host = re.sub(r"[^A-Za-z0-9.-]", "_", parts.netloc).strip(".")
    target = _free(folder / host / (name or "image"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    try:
        named = _with_suffix(target)
        read_any_image(named)
    except (InputError, OSError):
        target.unlink(missing_ok=True)
        raise InputError(f"the server sent no image that can be read ({len(content)} bytes of {kind})") from None
    return named


def _with_suffix(path: Path) -> Path:
    """Give a file the suffix of its format, where its name has none of an image, and return its path."""
    if path.suffix.lower() in SUFFIXES:
        return path
    with Image.open(path) as image:
        suffix = f".{(image.format or '').lower()}"
    named = _free(path.with_name(path.name + suffix))
    if suffix not in SUFFIXES:
        raise InputError(f"'{path}' is not of a type that is read")
    return path.rename(named)


def _free(path: Path) -> Path:
    """Return the path, or one with a number, that does not exist."""
    number, chosen = 1, path
    while chosen.exists():
        number += 1
        chosen = path.with_stem(f"{path.stem}-{number}")
    return chosen


def _parse(address: str) -> SplitResult:
    try:
        # A path object has made one slash of two.
        parts = urlsplit(re.sub(r"^(https?):/+", r"\1://", quote(address, safe="/:?#[]@!$&'()*+,;=%~"), flags=re.I))
        _ = parts.port
    except ValueError as problem:
        raise InputError(f"is no address ({problem})") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise InputError("only http and https addresses are downloaded")
    if "@" in parts.netloc:
        raise InputError("addresses with a user name or password are not supported; download it yourself")
    return parts


class _Redirects(request.HTTPRedirectHandler):
    """Follows redirects to http and https alone."""

    def redirect_request(  # noqa: PLR0917 (urllib's signature)
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        if urlsplit(newurl).scheme not in _SCHEMES:
            fp.close()
            raise InputError(f"the server redirects to '{newurl[:80]}'; only http and https addresses are downloaded")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(address: str, limits: DownloadLimits) -> tuple[bytes, str]:
    """Return the content of an address, and the type that the server calls it."""
    opener = request.OpenerDirector()  # that of `build_opener` opens files and ftp as well
    handlers = (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, _Redirects)
    for handler in (*handlers, request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor):
        opener.add_handler(handler())
    try:
        answer = opener.open(request.Request(address, headers=_HEADERS), timeout=limits.silence)
        with cast("HTTPResponse", answer) as response:
            return _read(response, limits), response.headers.get_content_type()
    except error.HTTPError as problem:
        problem.close()
        raise InputError(f"the server answered {problem.code} {problem.reason}") from None
    except TimeoutError:
        raise InputError(f"the server did not answer within {limits.silence:g} seconds") from None
    except (OSError, HTTPException, ValueError) as problem:
        reason = getattr(problem, "reason", problem)
        if isinstance(reason, TimeoutError):
            raise InputError(f"the server did not answer within {limits.silence:g} seconds") from None
        raise InputError(f"cannot be downloaded ({reason})") from None


def _read(response: HTTPResponse, limits: DownloadLimits) -> bytes:
    end = time.monotonic() + limits.seconds
    too_large = InputError(f"the file is larger than {limits.num_bytes / (1 << 20):.3g} MiB")
    if (response.length or 0) > limits.num_bytes:
        raise too_large
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > limits.num_bytes:
            raise too_large
        if time.monotonic() > end:
            raise InputError(f"the download takes longer than {limits.seconds:g} seconds")
    if response.length:
        raise InputError(f"the connection ended {response.length} bytes before the end of the file")
    return bytes(content)
