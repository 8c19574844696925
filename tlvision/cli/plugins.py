"""`tlvision plugins`, and `tlvision plugins NAME [PART]` for all architectures of one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tlvision.types import InputError

if TYPE_CHECKING:
    from tlvision.plugin import Plugin

_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", nargs="?", help="list the architectures of this plugin, one a line")
    parser.add_argument("part", nargs="?", help="only those whose name contains this")


def run(options: argparse.Namespace) -> None:
    """Print every installed plugin, or the architectures of one, without importing any upstream."""
    from tlvision.plugin import get_plugin, plugin_names

    if options.name is None:
        for name in plugin_names():
            _describe(get_plugin(name))
        return
    names = get_plugin(options.name).architectures()
    found = [name for name in names if options.part is None or options.part in name]
    if not found:
        raise InputError(
            f"plugins: none of the {len(names)} architectures of '{options.name}' contains '{options.part}'"
        )
    print("\n".join(found))


def _describe(plugin: Plugin) -> None:
    from importlib.metadata import PackageNotFoundError, version

    from tlvision.plugin import HasOptions

    name, upstream = plugin.name, "no upstream"
    if plugin.upstream:
        try:
            upstream = f"{plugin.upstream} {version(plugin.upstream)} (tested with {plugin.upstream_versions})"
        except PackageNotFoundError:
            upstream = f'{plugin.upstream} is not installed: pip install "tlvision[{name}]"'
    known = plugin.architectures()
    shown = ", ".join(known[:_SHOWN])
    if len(known) > _SHOWN:
        shown += f" … {len(known)} in all: tlvision plugins {name}"
    print(f"{name}\n  tasks          {', '.join(plugin.tasks)}\n  upstream       {upstream}")
    print(f"  licence        {plugin.licence}\n  architectures  {shown}")
    for power, state in plugin.capabilities.items():
        print(f"  {power:<14} {state}")
    if isinstance(plugin, HasOptions):
        print("  model.options")
        for key, field in plugin.options_type().model_fields.items():
            default = field.get_default(call_default_factory=True)
            print(f"    {key}: {default!r}  {field.description or ''}".rstrip())
