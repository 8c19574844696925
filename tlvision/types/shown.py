"""Show values in messages: short, and without failing on values that cannot be written."""

from __future__ import annotations


def clip(text: str, limit: int = 80) -> str:
    """Return a text, cut to at most `limit` characters.

    >>> clip("a" * 90, 10)
    'aaaaaaaaa…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shown(value: object, limit: int = 80) -> str:
    """Return a value for a message as Python writes it, at most `limit` characters.

    >>> shown("x"), shown([1, 2]), shown(10 ** 5000)
    ("'x'", '[1, 2]', 'a number of more than 4300 digits')
    """
    try:
        return clip(repr(value), limit)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of more than 4300 digits"
    except RecursionError:
        return "a nested value"
