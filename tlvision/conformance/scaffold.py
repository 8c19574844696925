"""Write the folder of a new package from templates; nothing that exists is overwritten."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from tlvision.files.inputs import exists
from tlvision.types import InputError
from tlvision.types.shown import shown

_LONGEST_NAME = 50


def check_name(command: str, name: str) -> None:
    """Raise InputError if `name` cannot be that of a new package `tlvision_<name>`."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InputError(
            f"{command}: expected a name of lower-case letters, digits and underscores that begins with a letter, "
            f"got '{name}'"
        )
    if len(name) > _LONGEST_NAME:
        raise InputError(f"{command}: the name has {len(name)} characters. Use at most {_LONGEST_NAME}.")


def check_package(command: str, name: str) -> None:
    """Raise InputError if there is a package `tlvision_<name>` already."""
    if find_spec(f"tlvision_{name}") is not None:
        raise InputError(f"{command}: there is a package 'tlvision_{name}' already; choose another name")


def class_name(name: str) -> str:
    """Return a name in snake_case as that of a class.

    >>> class_name("feature_norm")
    'FeatureNorm'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def write_package(
    command: str, name: str, parent: Path, *, templates: str, targets: Mapping[str, str], values: Mapping[str, str]
) -> Path:
    """Write the folder `tlvision-<name>` in `parent` and return its path.

    templates: folder of the templates in `tlvision/conformance`.
    targets:   {template: file that it becomes}, where "{name}" stands for the name.
    values:    what "$key" in a template becomes, by key.

    Raises InputError if the folder exists or cannot be created.
    """
    folder = parent / f"tlvision-{name}"
    if exists(folder):
        raise InputError(f"{command}: '{folder}' exists already; choose another name or remove it")
    try:
        folder.mkdir(parents=True)  # exclusive: of two commands at once, one fails
    except (OSError, ValueError) as error:
        raise InputError(f"{command}: the folder {shown(str(folder))} cannot be created ({error})") from None
    root = files("tlvision.conformance") / templates
    for source, target in targets.items():
        text = (root / source).read_text(encoding="utf-8")
        path = folder / target.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(text).substitute(values))
    return folder
