"""Write the folder of a new plugin that passes the kit, ready to be replaced piece by piece."""

from __future__ import annotations

from pathlib import Path

from tlvision.conformance.scaffold import check_name, check_package, class_name, write_package
from tlvision.plugin import plugin_names
from tlvision.types import InputError, nearest

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
"""Task: templates of its package in addition to those."""
NOUNS = {"detect": "detector", "instance": "instance segmenter", "semantic": "semantic segmenter"}
COMMAND = "new-plugin"


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
        raise InputError(f"{COMMAND}: no template for the task '{task}'.{nearest(task, TASK_FILES)}")
    check_name(COMMAND, name)
    if name in plugin_names():
        raise InputError(f"{COMMAND}: there is a plugin '{name}' already; choose another name")
    check_package(COMMAND, name)
    models = " and ".join(f"`{Path(source).stem}`" for source in TASK_FILES[task][1:])
    values = {"name": name, "title": class_name(name), "task": task, "noun": NOUNS[task], "models": models}
    return write_package(COMMAND, name, parent, templates="template", targets=files_of(task), values=values)
