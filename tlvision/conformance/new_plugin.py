"""Write the folder of a new plugin that passes the kit as it stands, ready to be replaced piece by piece."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from tlvision.files.json_files import write_text
from tlvision.plugin import plugin_names
from tlvision.types import InputError

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
    if name in plugin_names():
        raise InputError(f"new-plugin: there is a plugin '{name}' already; choose another name")
    folder = parent / f"tlvision-{name}"
    if folder.exists():
        raise InputError(f"new-plugin: '{folder}' exists already; choose another name or remove it")
    title = "".join(part.capitalize() for part in name.split("_"))
    templates = files("tlvision.conformance") / "template"
    for source, target in FILES.items():
        text = (templates / source).read_text(encoding="utf-8")
        path = folder / target.format(name=name)
        write_text(path, Template(text).substitute(name=name, title=title))
    return folder
