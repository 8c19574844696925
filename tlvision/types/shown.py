"""Show values in messages: short, and without failing on values that cannot be written."""

from __future__ import annotations


def is_encodable(text: str) -> bool:
    r"""Return whether a text can be written as UTF-8. Half of a surrogate pair, as JSON may have it, cannot.

    >>> is_encodable("größe"), is_encodable("\ud83d")
    (True, False)
    """
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def has_control(text: str) -> bool:
    r"""Return whether a text has control characters, which would break a line or steer a terminal.

    >>> has_control("größe 3"), has_control("a\nb")
    (False, True)
    """
    return not text.isprintable() and any(character < " " or character == "\x7f" for character in text)


def plain(text: str) -> str:
    r"""Return a text with a space for each control character.

    >>> plain("a\nb")
    'a b'
    """
    return "".join(" " if has_control(character) else character for character in text)


def clip(text: str, limit: int = 80) -> str:
    """Return a text, cut to at most `limit` characters.

    >>> clip("a" * 90, 10)
    'aaaaaaaaa…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def cause(error: BaseException) -> str:
    """Return the kind of an error and the first line of its text, cut to at most 300 characters.

    >>> cause(ValueError("no such class"))
    'ValueError: no such class'
    """
    return clip(f"{type(error).__name__}: {error}".partition("\n")[0], 300)


def shown(value: object, limit: int = 80) -> str:
    """Return a value for a message as Python writes it, at most `limit` characters.

    Takes no longer for lists that hold one list many times, as YAML can write them, or are deeply nested.

    >>> shown("x"), shown([1, 2]), shown(10 ** 5000)
    ("'x'", '[1, 2]', 'a number of more than 4300 digits')
    """
    try:
        return clip(_beginning(value, limit), limit)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of more than 4300 digits"


def _beginning(value: object, room: int) -> str:
    """Return what Python writes of a value, or more than `room` characters of it."""
    if type(value) not in (list, dict):
        return repr(value)
    assert isinstance(value, list | dict)
    written = "[" if isinstance(value, list) else "{"
    close = "]" if isinstance(value, list) else "}"
    for number, item in enumerate(value):
        if len(written) > room:
            return written
        written += ", " if number else ""
        if isinstance(value, dict):
            written += f"{item!r}: {_beginning(value[item], room - len(written))}"
        else:
            written += _beginning(item, room - len(written))
    return written + close
