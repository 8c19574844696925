"""Names of models in a library: `name`, `name@version`, and `library://name@version` as `model.weights`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tlvision.types import InputError
from tlvision.types.shown import shown

SCHEME = "library://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}


@dataclass(frozen=True, slots=True)
class Address:
    """A model of a library. version: 1 or more; None for the newest one."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def check_name(name: str) -> str:
    """Return a name that can be a folder on every system; InputError if it cannot.

    >>> check_name("bccd-yolo")
    'bccd-yolo'
    """
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise InputError(
            f"models: {shown(name)} cannot be the name of a model: use up to 64 letters, digits, '-' and '_', a letter "
            "or digit first"
        )
    return name


def parse(text: str) -> Address:
    """Return the address in a text, with or without `library://`.

    Raises InputError if it is none.

    >>> parse("library://bccd@2"), parse("bccd")
    (Address(name='bccd', version=2), Address(name='bccd', version=None))
    """
    name, mark, version = text.removeprefix(SCHEME).partition("@")
    check_name(name)
    if not mark:
        return Address(name)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise InputError(f"models: {shown(text)} has no version behind the '@'; write a whole number, as in {name}@1")
    return Address(name, int(version))
