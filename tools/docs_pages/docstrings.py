"""Write docstrings as Markdown: parameters as lists, doctests as code blocks. Also a griffe extension that does so."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*):\s+(.*)$")


def to_markdown(docstring: str) -> str:
    """Return a docstring as Markdown: blocks of parameters as lists, doctests as code blocks."""
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", docstring))


def split_entries(docstring: str) -> tuple[str, dict[str, str]]:
    r"""Return a docstring without its blocks of parameters, and what they say of each parameter.

    >>> split_entries("Scale boxes.\n\nx, y: shares of\n      the size.")
    ('Scale boxes.', {'x': 'shares of the size.', 'y': 'shares of the size.'})
    """
    rest: list[str] = []
    found: dict[str, str] = {}
    for part in re.split(r"\n\s*\n", docstring):
        entries = _entries(part)
        if entries is None:
            rest.append(part)
        else:
            found |= {name: text for names, text in entries for name in names.split(", ")}
    return "\n\n".join(rest), found


def _paragraph(part: str) -> str:
    if part.startswith(">>>"):
        return f"```pycon\n{part}\n```"
    entries = _entries(part)
    if entries is None:
        return part
    return "\n".join(f"- {', '.join(f'`{n}`' for n in names.split(', '))}: {text}" for names, text in entries)


def _entries(part: str) -> list[tuple[str, str]] | None:
    """Return (names, text) of each entry of a block of parameters; None for another paragraph."""
    entries: list[tuple[str, str]] = []
    for line in part.splitlines():
        if match := _ENTRY.match(line):
            entries.append((match[1], match[2]))
        elif entries and line.startswith("  "):
            names, text = entries[-1]
            entries[-1] = names, f"{text} {line.strip()}"
        else:
            return None
    return entries or None


class MarkdownDocstrings(griffe.Extension):
    """Give mkdocstrings the docstrings as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
