"""`tlvision config-reference`, and `tlvision config-reference KEY` for one part of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from tlvision.types import InputError, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping of a config.

    key:     where it is: "data.batch"; "" for the top level.
    text:    the docstring of its class.
    entries: (key, type, default, description) of each value, keys in full.
    """

    key: str
    text: str
    entries: tuple[tuple[str, str, str, str], ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("key", nargs="?", help="print this section or value only, for example data.batch")


def run(options: argparse.Namespace) -> None:
    """Print every key of a config with type, limits, default and description, as Markdown."""
    print(markdown(sections(), options.key))


def sections() -> list[Section]:
    """Return all sections of the schema, from the top level down."""
    from tlvision.config.schema import Config

    return list(_sections("", Config, {}))


def markdown(found: list[Section], key: str | None = None) -> str:
    """Return sections as Markdown with a definition list each; with `key` only what it names.

    Raises InputError if nothing has this key.
    """
    if key is None:
        return "\n".join(_section_text(section) for section in found)
    below = [section for section in found if section.key == key or section.key.startswith(f"{key}.")]
    entries = [entry for section in found for entry in section.entries if entry[0] == key]
    if not below and not entries:
        known = [section.key for section in found] + [entry[0] for section in found for entry in section.entries]
        raise InputError(f"config-reference: no key '{key}'.{nearest(key, known)}")
    return "\n".join(map(_section_text, below)) if below else "\n".join(map(_entry_text, entries))


def _sections(key: str, model: type[BaseModel], where: dict[type[BaseModel], str]) -> Iterator[Section]:
    """Yield a section and those below it; `where` collects the key at which each class is described."""
    from tlvision.cli.field_text import docstring_text

    where[model] = key
    entries, below = [], []
    for name, field in model.model_fields.items():
        full = f"{key}.{field.alias or name}".removeprefix(".")
        inner = _model_of(field)
        entries.append(_entry(full, field, None if inner is None else where.get(inner, full)))
        if inner is not None and inner not in where:
            where[inner] = full
            below.append((full, inner))
    yield Section(key, docstring_text(model), tuple(entries))
    for full, inner in below:
        yield from _sections(full, inner, where)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    from pydantic import BaseModel

    for part in (field.annotation, *get_args(field.annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _entry(key: str, field: FieldInfo, described: str | None) -> tuple[str, str, str, str]:
    """Return one entry; `described` is the key of the section that lists the keys of a mapping."""
    from tlvision.cli.field_text import default_text, field_text

    description = field.description or ""
    if described is None:
        return key, field_text(field), default_text(field), description
    default = "required" if field.is_required() else "optional"
    return key, "mapping", default, f"{description} Keys: see `{described}`."


def _section_text(section: Section) -> str:
    title = section.key or "Top level"
    return f"## {title}\n\n{section.text}\n\n" + "\n".join(map(_entry_text, section.entries))


def _entry_text(entry: tuple[str, str, str, str]) -> str:
    key, kind, default, description = entry
    return f"`{key}` ({kind}; {default})\n:   {description}\n"
