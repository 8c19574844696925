"""Print to the terminal: whatever comes from users (class names, paths, metrics) appears as it is, never as markup."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text


def console(width: int | None = None) -> Console:
    """Return a console on the present standard output that takes every text literally.

    width: columns if the output is no terminal; None leaves the choice to rich.

    Texts, table cells, titles and rules are printed without reading markup ("[red]") or emoji codes (":dog:"). Colours
    are given by `rich.text.Text` and by `style=`.

    >>> console(40).print("on[/off] scratch [deep] :dog:")
    on[/off] scratch [deep] :dog:
    """
    is_terminal = Console(file=sys.stdout).is_terminal
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, width=None if is_terminal else width)


def note(target: Console, text: str) -> None:
    """Print "note" in yellow, then the text."""
    target.print(Text("note", "yellow"), Text(text), soft_wrap=True)
