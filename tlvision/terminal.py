"""Print to the terminal: texts of users (class names, paths, metrics) appear literally, never as markup."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
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


def table(*columns: str, title: str | None = None, right: Iterable[str] = ()) -> Table:
    """Return an empty table with a line under its header.

    columns: headers, from left to right.
    right:   those of them whose cells are aligned to the right, as numbers are.
    """
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    numbers = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left")
    return made


def note(target: Console, text: str) -> None:
    """Print "note" in yellow, then the text."""
    target.print(Text("note", "yellow"), Text(text), soft_wrap=True)
