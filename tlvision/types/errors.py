"""Exceptions whose message is one sentence that the user can act on.

`InputError` is the user's to correct (a file, a key, an option): the command line prints it without a traceback and
exits with 2. `RunError` is a run that started well and could not go on (a loss that is not finite, a full disk):
exit 1. Anything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tlvision.types.shown import clip

_LONGEST = 300
"""Characters of one name in a message."""


class TlvisionError(Exception):
    """The common base class of all errors that tlvision raises for users."""


class InputError(TlvisionError):
    """The input is wrong. The message has the problem, the value, the place and the remedy."""


class RunError(TlvisionError):
    """The run failed after its input had been accepted."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return which of `options` was probably meant, for the end of an error message.

    Returns ``" Did you mean 'x'?"`` or, where nothing is close, ``" Known: a, b, c."``.

    >>> nearest("freez", ["freeze", "ema"])
    " Did you mean 'freeze'?"
    >>> nearest("zzz", ["freeze", "ema"])
    ' Known: ema, freeze.'
    """
    names = sorted(options)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(names)}." if names else " There are none."


def listing(names: Iterable[object], limit: int = 5) -> str:
    """Join the first `limit` names, clipped, and count the rest, so that a message names without flooding.

    >>> listing(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    items = list(names)
    shown = ", ".join(clip(str(name), _LONGEST) for name in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the singular for 1.

    >>> counted(1, "box"), counted(2, "box"), counted(0, "class"), counted(3, "image"), counted(4, "epoch")
    ('1 box', '2 boxes', '0 classes', '3 images', '4 epochs')
    """
    if count == 1:
        return f"1 {noun}"
    hissing = noun.endswith(("s", "x", "ch")) and not noun.endswith("epoch")
    return f"{count} {plural or noun + ('es' if hissing else 's')}"
