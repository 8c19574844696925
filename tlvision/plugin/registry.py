"""Plugins are found through the entry-point group `tlvision.plugins`, ours and anyone else's in the same way."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, get_type_hints

from tlvision.types import InputError, listing, nearest
from tlvision.types.shown import cause

if TYPE_CHECKING:
    from tlvision.plugin.protocol import Plugin

GROUP = "tlvision.plugins"
_METHODS = ("architectures", "task_of", "build")


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def plugin_names() -> tuple[str, ...]:
    """Return the names of all installed plugins, sorted, without importing any."""
    return tuple(sorted(_entry_points()))


def clashes() -> dict[str, str]:
    """Return, for each name that several packages claim, a sentence about it."""
    origins: dict[str, set[str]] = {}
    for point in entry_points(group=GROUP):
        origins.setdefault(point.name, set()).add(point.value)
    return {
        name: f"plugin '{name}': several packages provide it ({listing(sorted(values))}); uninstall all but one"
        for name, values in origins.items()
        if len(values) > 1
    }


def usable_plugins() -> tuple[Plugin, ...]:
    """Return all installed plugins that can be imported and fulfil the contract."""
    usable = []
    for name in plugin_names():
        try:
            usable.append(get_plugin(name))
        except InputError:  # `tlvision plugins` says why
            continue
    return tuple(usable)


def get_plugin(name: str) -> Plugin:
    """Import the plugin `name` and check that it fulfils the contract.

    Raises InputError if there is none of this name (with the nearest), several packages provide it, its module cannot
    be imported (with the cause), or a member of the contract is missing (naming plugin, entry point and member).
    """
    points = _entry_points()
    if name not in points:
        raise InputError(f"model.plugin: no plugin '{name}' is installed.{nearest(name, points)}")
    if name in clashes():
        raise InputError(clashes()[name])
    point = points[name]
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # a module of another package may do anything when it is imported
        raise InputError(
            f"plugin '{name}': its entry point '{point.value}' cannot be imported ({cause(error)}); install the "
            "package that provides it again, or uninstall it"
        ) from error
    try:
        check_plugin_object(name, point.value, plugin)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"plugin '{name}' ({point.value}): {cause(error)}") from error
    return plugin  # type: ignore[no-any-return]


def check_plugin_object(name: str, origin: str, plugin: object) -> None:
    """Raise InputError that names the first member of the contract which `plugin` lacks."""
    from tlvision.plugin.protocol import Plugin

    for attribute in get_type_hints(Plugin):
        if not hasattr(plugin, attribute):
            raise InputError(f"plugin '{name}' ({origin}): the contract requires the attribute '{attribute}'")
    for method in _METHODS:
        if not callable(getattr(plugin, method, None)):
            raise InputError(f"plugin '{name}' ({origin}): the contract requires the method '{method}()'")
    if plugin.name != name:  # type: ignore[attr-defined]
        raise InputError(f"plugin '{name}' ({origin}): calls itself '{plugin.name}'; both names must be the same")  # type: ignore[attr-defined]
