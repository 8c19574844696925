"""`tlvision hooks`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""


def run(options: argparse.Namespace) -> None:
    """Print every installed hook with its kind, parameters, needs and source."""
    import inspect
    import sys

    from tlvision.hooks.registry import hook_class, hook_names

    for name in hook_names():
        found = hook_class(name)
        print(f"{name}  ({found.__mro__[1].__name__.removesuffix('Hook').lower()})")
        print("  " + inspect.cleandoc(found.__doc__ or "").replace("\n", "\n  "))
        for parameter in inspect.signature(found.__init__).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                default = "required" if parameter.default is parameter.empty else f"default {parameter.default!r}"
                print(f"  {parameter.name}: {parameter.annotation} ({default})")
        source = inspect.cleandoc(sys.modules[found.__module__].__doc__ or "").partition("\n\n")[2]
        print("  " + source.replace("\n", "\n  ") + "\n" if source else "")
