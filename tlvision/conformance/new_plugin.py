"""Write the folder of a new plugin that passes the kit as it stands, ready to be replaced piece by piece."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from tlvision.files.inputs import exists
from tlvision.plugin import plugin_names
from tlvision.types import InputError
from tlvision.types.shown import shown

FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "package/__init__.py.tmpl": "tlvision_{name}/__init__.py",
    "package/plugin.py.tmpl": "tlvision_{name}/plugin.py",
    "package/adapter.py.tmpl": "tlvision_{name}/adapter.py",
    "package/model.py.tmpl": "tlvision_{name}/model.py",
    "tests/test_contract.py.tmpl": "tests/test_contract.py",
}
"""Template: what it becomes."""
_LONGEST_NAME = 50


def new_plugin(name: str, parent: Path = Path()) -> Path:
    """Write the folder `tlvision-<name>` in `parent` and return its path.

    name: lower-case letters, digits and underscores, beginning with a letter: the plugin's name in a config.

    Raises InputError where the name cannot be used or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InputError(
            f"new-plugin: expected a name of lower-case letters, digits and underscores that begins with a letter, "
            f"got '{name}'"
        )
    if len(name) > _LONGEST_NAME:
        raise InputError(f"new-plugin: the name has {len(name)} characters. Use at most {_LONGEST_NAME}.")
    if name in plugin_names() or find_spec(f"tlvision_{name}") is not None:
        raise InputError(f"new-plugin: there is a plugin or package '{name}' already; choose another name")
    folder = parent / f"tlvision-{name}"
    if exists(folder):
        raise InputError(f"new-plugin: '{folder}' exists already; choose another name or remove it")
    try:
        folder.mkdir(parents=True)  # exclusive: of two commands at once, one fails
    except (OSError, ValueError) as error:
        raise InputError(f"new-plugin: the folder {shown(str(folder))} cannot be created ({error})") from None
    title = "".join(part.capitalize() for part in name.split("_"))
    templates = files("tlvision.conformance") / "template"
    for source, target in FILES.items():
        text = (templates / source).read_text(encoding="utf-8")
        path = folder / target.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(text).substitute(name=name, title=title))
    return folder
