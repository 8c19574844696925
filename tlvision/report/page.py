"""Render pages from templates: one file that needs no network, for a run, a comparison or an experiment.

A page is a headline and sections; a section is data and a template in `templates/sections`. A new page takes a list of
sections, its own or those of `tlvision.report.sections`, and calls `write_page`. Templates escape all text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.evaluation.summary import format_number
from tlvision.files.json_files import write_text
from tlvision.types import leaves

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
Cell = float | int | str | None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    title: its heading, unique on its page. template: file in `templates/sections`, without ".html".
    data:  what the template calls `data`.
    note:  one sentence below the heading.
    """

    title: str
    template: str
    data: Any
    note: str = ""

    @property
    def anchor(self) -> str:
        """Return the id of the section on its page.

        >>> Section("Worst images", "worst", {}).anchor
        'worst-images'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table whose columns can be sorted.

    columns: heads, the first of the names. rows: cells; numbers are shown with four digits, None as "-".
    bars:    heads of columns with a bar behind the number, as long as its share of the largest one.
    text:    heads of columns with text, besides the first.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    bars: Sequence[str] = ()
    text: Sequence[str] = ()

    def share(self, column: int, value: Cell) -> float:
        """Return the length of a bar, 0..1."""
        values = [row[column] for row in self.rows]
        highest = max((abs(number) for number in values if isinstance(number, int | float)), default=0)
        return abs(value) / highest if highest and isinstance(value, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page.

    title:    of the page and of its browser tab.
    answer:   the result in one sentence. details: sentences below it. facts: names and values below the title.
    tiles:    names and values of the most important numbers.
    sections: in order; None is left out.
    """

    title: str
    answer: str = ""
    details: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tiles: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section | None] = field(default_factory=tuple)


def write_page(path: Path, page: Page) -> Path:
    """Write a page and return its path."""
    write_text(path, render(page))
    return path


def render(page: Page) -> str:
    """Return the HTML of a page.

    >>> "&lt;b&gt; is best" in render(Page("a", "<b> is best"))
    True
    """
    environment = _environment()
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        page=page,
        sections=[section for section in page.sections if section is not None],
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=digest,
    )


Block = Mapping[str, Any]


def section(title: str, blocks: Sequence[Block], note: str = "") -> Section | None:
    """Return a section of blocks, None if there is nothing to show.

    blocks: mappings with any of title, text, charts (title and SVG), pictures (caption and data URI), table, pairs
            (name and value), notes, pre, shares, and details: the line that a folded block shows. A block with nothing
            but title and details is left out.
    """
    shown = [block for block in blocks if any(block[key] for key in block.keys() - {"title", "details"})]
    return Section(title, "blocks", shown, note) if shown else None


def spaced(name: str) -> str:
    """Return the name of a metric or column as words.

    >>> spaced("mean_class_iou"), spaced("f1")
    ('mean class IoU', 'F1')
    """
    words = {"iou": "IoU", "f1": "F1"}
    return " ".join(words.get(word, word) for word in str(name).split("_"))


def flat(value: Any) -> list[tuple[str, str]]:
    """Return dotted keys and values of nested mappings, as text."""
    return [(key, "-" if item is None else str(item)) for key, item in leaves(value)]


def _shown(cell: Cell) -> str:
    """Return a cell as text; large counts have commas."""
    return f"{cell:,}" if isinstance(cell, int) else format_number(cell)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _shown, "spaced": spaced}
    return environment
