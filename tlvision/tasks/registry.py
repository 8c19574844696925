"""Tasks are found by name: ours from the table below, anyone else's from the entry-point group `tlvision.tasks`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from tlvision.types import InputError, listing, nearest
from tlvision.types.shown import clip

if TYPE_CHECKING:
    from tlvision.tasks.base import Task

GROUP = "tlvision.tasks"
BUILT_IN = {
    "detect": "tlvision.tasks.objects:DETECT",
    "instance": "tlvision.tasks.objects:INSTANCE",
    "semantic": "tlvision.tasks.semantic:SEMANTIC",
}


@cache
def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def task_names() -> tuple[str, ...]:
    """Return the names of all installed tasks, sorted, without importing any."""
    return tuple(sorted(BUILT_IN.keys() | _third_party().keys()))


def built_in_tasks() -> tuple[Task, ...]:
    """Return the tasks of tlvision itself."""
    return tuple(get_task(name) for name in BUILT_IN)


@cache
def get_task(name: str) -> Task:
    """Import the task called `name`.

    Raises InputError if there is none (with the nearest name), several packages provide it, or it cannot be imported.

    >>> get_task("detect").results_name
    'predictions.json'
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    if name not in _third_party():
        raise InputError(f"unknown task '{name}'.{nearest(name, task_names())}")
    values = sorted({point.value for point in entry_points(group=GROUP) if point.name == name})
    if len(values) > 1:
        raise InputError(f"task '{name}': several packages provide it ({listing(values)}); uninstall all but one")
    task = _load(name, _third_party()[name])
    if getattr(task, "name", None) != name:
        raise InputError(f"task '{name}' ({values[0]}): its name is {getattr(task, 'name', None)!r}; expected '{name}'")
    return task  # type: ignore[no-any-return]


def _load(name: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # a module of another package may do anything when it is imported
        cause = clip(f"{type(error).__name__}: {error}".partition("\n")[0], 300)
        raise InputError(
            f"task '{name}': its entry point '{point.value}' cannot be imported ({cause}). "
            "Update or uninstall the package that provides it."
        ) from error
