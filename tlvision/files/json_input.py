"""Read JSON that a user gives, with every way in which it can fail as one sentence."""

from __future__ import annotations

import json
from pathlib import Path

from tlvision.files.archives import refuse_archive
from tlvision.files.inputs import read_bytes, too_large
from tlvision.files.memory import no_collection
from tlvision.types import InputError


def load_json(path: Path, what: str) -> object:
    """Return the content of a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    what: kind of the file, for messages: "a COCO json".

    Raises InputError, one sentence with the file's name: absent, not a regular file (a pipe would block), not text,
    not JSON (with line and column), nested too deeply, or too large for the memory.
    """
    refuse_archive(path, f"{what} from it")
    data = read_bytes(path, what)
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        del data  # as large as the text
        with no_collection():
            content: object = json.loads(text)
        return content
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path.name}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); write it again"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not a text file in UTF-8, so not {what}") from None
    except RecursionError:
        raise InputError(f"{path.name}: nested too deeply, so not {what}") from None
    except MemoryError:
        raise too_large(path, what) from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"'{path}': not {what} ({str(error)[:120]})") from None
