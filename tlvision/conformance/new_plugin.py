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
from tlvision.types import InputError, nearest
from tlvision.types.shown import shown

FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "package/__init__.py.tmpl": "tlvision_{name}/__init__.py",
    "package/plugin.py.tmpl": "tlvision_{name}/plugin.py",
    "package/build.py.tmpl": "tlvision_{name}/build.py",
    "tests/test_contract.py.tmpl": "tests/test_contract.py",
}
"""Template: file that it becomes, for every task."""
TASK_FILES = {
    "detect": ("detect/adapter.py.tmpl", "detect/model.py.tmpl"),
    "instance": ("instance/adapter.py.tmpl", "detect/model.py.tmpl", "instance/masks.py.tmpl"),
    "semantic": ("semantic/adapter.py.tmpl", "semantic/model.py.tmpl"),
}
"""Task: templates of its package beside those."""
NOUNS = {"detect": "detector", "instance": "instance segmenter", "semantic": "semantic segmenter"}
_LONGEST_NAME = 50


def files_of(task: str) -> dict[str, str]:
    """Return {template: file that it becomes} of a plugin for `task`; "{name}" stands for the plugin's name."""
    own = {source: f"tlvision_{{name}}/{Path(source).stem}" for source in TASK_FILES[task]}
    return FILES | own


def new_plugin(name: str, parent: Path = Path(), *, task: str = "detect") -> Path:
    """Write the folder `tlvision-<name>` in `parent` and return its path.

    name: lower-case letters, digits and underscores, beginning with a letter: the plugin's name in a config.
    task: "detect", "instance" or "semantic": the task of the tiny model inside.

    Raises InputError if the name cannot be used, the folder exists or there is no template for the task.
    """
    if task not in TASK_FILES:
        raise InputError(f"new-plugin: no template for the task '{task}'.{nearest(task, TASK_FILES)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InputError(
            f"new-plugin: expected a name of lower-case letters, digits and underscores that begins with a letter, "
            f"got '{name}'"
        )
    if len(name) > _LONGEST_NAME:
        raise InputError(f"new-plugin: the name has {len(name)} characters. Use at most {_LONGEST_NAME}.")
    if name in plugin_names():
        raise InputError(f"new-plugin: there is a plugin '{name}' already; choose another name")
    if find_spec(f"tlvision_{name}") is not None:
        raise InputError(f"new-plugin: there is a package 'tlvision_{name}' already; choose another name")
    folder = parent / f"tlvision-{name}"
    if exists(folder):
        raise InputError(f"new-plugin: '{folder}' exists already; choose another name or remove it")
    try:
        folder.mkdir(parents=True)  # exclusive: of two commands at once, one fails
    except (OSError, ValueError) as error:
        raise InputError(f"new-plugin: the folder {shown(str(folder))} cannot be created ({error})") from None
    title = "".join(part.capitalize() for part in name.split("_"))
    models = " and ".join(f"`{Path(source).stem}`" for source in TASK_FILES[task][1:])
    values = {"name": name, "title": title, "task": task, "noun": NOUNS[task], "models": models}
    templates = files("tlvision.conformance") / "template"
    for source, target in files_of(task).items():
        text = (templates / source).read_text(encoding="utf-8")
        path = folder / target.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(text).substitute(values))
    return folder
