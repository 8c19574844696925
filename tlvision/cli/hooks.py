"""`tlvision hooks`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""


def run(options: argparse.Namespace) -> None:
    """Print every installed hook with its kind, parameters, needs and source."""
    import inspect
    import sys

    from tlvision.hooks.registry import hook_class, hook_names, hook_schema

    for name in hook_names():
        found = hook_class(name)
        print(f"{name}  ({found.__mro__[1].__name__.removesuffix('Hook').lower()})")
        print("  " + inspect.cleandoc(found.__doc__ or "").replace("\n", "\n  "))
        for parameter, field in hook_schema(found).model_fields.items():
            limits = "".join(f", {limit}" for limit in _limits(field.metadata))
            default = "required" if field.is_required() else f"default {field.default!r}"
            print(f"  - {parameter}: {_name(field.annotation)}{limits} ({default})")
        source = inspect.cleandoc(sys.modules[found.__module__].__doc__ or "").partition("\n\n")[2]
        print("  " + source.replace("\n", "\n  ") + "\n" if source else "")


def _name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _limits(metadata: Sequence[object]) -> list[str]:
    symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [
        f"{sign} {getattr(bound, key)}" for bound in metadata for key, sign in symbols.items() if hasattr(bound, key)
    ]
