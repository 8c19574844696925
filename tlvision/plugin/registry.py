"""Plugins are found through the entry-point group `tlvision.plugins`, ours and anyone else's in the same way."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, get_type_hints

from tlvision.types import InputError, nearest

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


def get_plugin(name: str) -> Plugin:
    """Import the plugin `name` and check that it has what the contract asks.

    Raises InputError where there is none of this name (with the nearest), where its module cannot be imported, or
    where a member of the contract is missing (naming plugin, entry point and member).
    """
    points = _entry_points()
    if name not in points:
        raise InputError(f"model.plugin: no plugin '{name}' is installed.{nearest(name, points)}")
    point = points[name]
    try:
        plugin = point.load()
    except ImportError as error:
        raise InputError(
            f"plugin '{name}': its entry point '{point.value}' cannot be imported ({error}); install the package that "
            "provides it again"
        ) from error
    check_plugin_object(name, point.value, plugin)
    return plugin  # type: ignore[no-any-return]


def check_plugin_object(name: str, origin: str, plugin: object) -> None:
    """Raise InputError that names the first member of the contract which `plugin` lacks."""
    from tlvision.plugin.protocol import Plugin

    for attribute in get_type_hints(Plugin):
        if not hasattr(plugin, attribute):
            raise InputError(f"plugin '{name}' ({origin}): the contract asks for the attribute '{attribute}'")
    for method in _METHODS:
        if not callable(getattr(plugin, method, None)):
            raise InputError(f"plugin '{name}' ({origin}): the contract asks for the method '{method}()'")
    if plugin.name != name:  # type: ignore[attr-defined]
        raise InputError(f"plugin '{name}' ({origin}): calls itself '{plugin.name}'; both names must be the same")  # type: ignore[attr-defined]
