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
            try:
                lines = _description(get_plugin(name))
            except Exception as error:  # one broken package must not hide the others
                lines = [name, f"  error          {_cause(error)}"]
            print("\n".join(lines))
        return
    names = get_plugin(options.name).architectures()
    found = [name for name in names if options.part is None or options.part in name]
    if not found:
        raise InputError(
            f"plugins: none of the {len(names)} architectures of '{options.name}' contains '{options.part}'"
        )
    print("\n".join(found))


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _description(plugin: Plugin) -> list[str]:
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
    lines = [name, f"  tasks          {', '.join(plugin.tasks)}", f"  upstream       {upstream}"]
    lines += [f"  licence        {plugin.licence}", f"  architectures  {shown}"]
    lines += [f"  {power:<14} {state}" for power, state in plugin.capabilities.items()]
    if isinstance(plugin, HasOptions):
        lines.append("  model.options")
        for key, field in plugin.options_type().model_fields.items():
            default = field.get_default(call_default_factory=True)
            lines.append(f"    {key}: {default!r}  {field.description or ''}".rstrip())
    return lines
