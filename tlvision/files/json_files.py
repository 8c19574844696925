"""Read and write text and JSON: written whole and flushed, read with an error that names the file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Literal

from tlvision.files.atomic import atomic_file
from tlvision.types import InputError, RunError


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text so that `path` is never half written, not even after a power failure.

    Raises RunError if the folder cannot be made or the file cannot be written.
    """
    path = Path(path)
    try:
        with atomic_file(path) as file:
            file.write(text.encode("utf-8"))
    except OSError as error:
        raise RunError(
            f"'{path}' cannot be written ({error.strerror or error}); free some space or choose another"
        ) from error


def write_json(
    path: str | Path, value: object, *, indent: int | None = None, nan: Literal["refuse", "null", "keep"] = "refuse"
) -> None:
    """Write `value` as JSON so that `path` is never half written.

    indent: spaces of a level; a list of numbers stays on one line. None for a file without line breaks.
    nan: what nan and infinity become, which JSON does not have. "refuse": a ValueError. "null": null, for files that
         other programs read. "keep": NaN and Infinity as Python reads them back, for a state that must be restored.

    Raises RunError if the folder cannot be made or the file cannot be written.
    """
    if nan == "null":
        value = _nan_as_null(value)
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators, allow_nan=nan == "keep")
    write_text(path, text if indent is None else _NUMBERS.sub(_one_line, text))


# A list of numbers over several lines; a string has no line breaks, only their escapes.
_NUMBERS = re.compile(r"\[\n\s*(?:[-+.\deE]+|null)(?:,\n\s*(?:[-+.\deE]+|null))*\n\s*\]")


def _one_line(numbers: re.Match[str]) -> str:
    return re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]")


def _nan_as_null(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _nan_as_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_as_null(item) for item in value]
    return value


def read_object(path: str | Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    remedy: a sentence for the error: what to do about a damaged file.

    Raises InputError that names the file if it is missing, is not JSON or holds no object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"'{path}' is missing. {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"'{path}' is damaged: it is not JSON ({reason}). {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"'{path}' is damaged: expected a JSON object, got {type(value).__name__}. {remedy}")
    return value
