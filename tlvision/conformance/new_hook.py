"""Write the folder of a new hook that passes the kit, ready to be replaced by a method."""

from __future__ import annotations

import re
from pathlib import Path

from tlvision.conformance.scaffold import check_name, check_package, class_name, write_package
from tlvision.hooks.registry import hook_names
from tlvision.types import InputError, nearest

KINDS = ("setup", "objective", "data", "observer", "model")
FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "__init__.py.tmpl": "tlvision_{name}/__init__.py",
    "tests/test_hook.py.tmpl": "tests/test_hook.py",
}
"""Template: file that it becomes, for every kind of hook."""
COMMAND = "new-hook"


def new_hook(name: str, parent: Path = Path(), *, kind: str = "setup") -> Path:
    """Write the folder `tlvision-<name>` in `parent` and return its path.

    name: lower-case letters, digits and underscores, each part beginning with a letter: the hook's name in a config.
    kind: "setup", "objective", "data", "observer" or "model".

    Raises InputError if the name cannot be used, the folder exists or there is no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"{COMMAND}: no kind of hook '{kind}'.{nearest(kind, KINDS)}")
    check_name(COMMAND, name)
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*", name):
        raise InputError(
            f"{COMMAND}: the name '{name}' does not follow from a class name. Begin every part between underscores "
            "with a letter."
        )
    if name in hook_names():
        raise InputError(f"{COMMAND}: there is a hook '{name}' already; choose another name")
    check_package(COMMAND, name)
    values = {"name": name, "title": class_name(name), "kind": kind}
    targets = FILES | {f"kinds/{kind}.py.tmpl": "tlvision_{name}/hook.py"}
    return write_package(COMMAND, name, parent, templates="hook_template", targets=targets, values=values)
