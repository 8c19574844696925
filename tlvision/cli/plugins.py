"""`tlvision plugins`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""


def run(options: argparse.Namespace) -> None:
    """Print every installed plugin, without importing any upstream."""
    from importlib.metadata import PackageNotFoundError, version

    from tlvision.plugin import HasOptions, get_plugin, plugin_names

    for name in plugin_names():
        plugin = get_plugin(name)
        upstream = "no upstream"
        if plugin.upstream:
            try:
                upstream = f"{plugin.upstream} {version(plugin.upstream)} (tested with {plugin.upstream_versions})"
            except PackageNotFoundError:
                upstream = f'{plugin.upstream} is not installed: pip install "tlvision[{name}]"'
        print(f"{name}\n  tasks          {', '.join(plugin.tasks)}\n  upstream       {upstream}")
        print(f"  licence        {plugin.licence}\n  architectures  {', '.join(plugin.architectures())}")
        for power, state in plugin.capabilities.items():
            print(f"  {power:<14} {state}")
        if isinstance(plugin, HasOptions):
            print("  model.options")
            for key, field in plugin.options_type().model_fields.items():
                default = field.get_default(call_default_factory=True)
                print(f"    {key}: {default!r}  {field.description or ''}")
