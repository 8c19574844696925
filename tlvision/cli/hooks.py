"""`tlvision hooks`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""


def run(options: argparse.Namespace) -> None:
    """Print every installed hook with its kind, parameters, needs and source; of a broken one, the error."""
    from tlvision.hooks.registry import clashes, hook_names
    from tlvision.types import InputError

    claimed = clashes()
    for name in hook_names():
        try:
            lines = _lines(name)
        except Exception as error:  # one broken package must not hide the others
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            lines = [f"{name}  (error)", f"  {reason}", ""]
        else:
            if name in claimed:
                lines.insert(1, f"  note: {claimed[name]}")
        print("\n".join(lines))


def _lines(name: str) -> list[str]:
    import inspect
    import sys

    from tlvision.hooks.registry import hook_class, hook_schema

    found = hook_class(name)
    lines = [f"{name}  ({found.__mro__[1].__name__.removesuffix('Hook').lower()})"]
    lines.append("  " + _description(inspect.cleandoc(found.__doc__ or "")).replace("\n", "\n  "))
    for parameter, field in hook_schema(found).model_fields.items():
        limits = "".join(f", {limit}" for limit in _limits(field.metadata))
        default = "required" if field.is_required() else f"default {field.default!r}"
        lines.append(f"  - {parameter}: {_name(field.annotation)}{limits} ({default})")
    source = inspect.cleandoc(sys.modules[found.__module__].__doc__ or "").partition("\n\n")[2]
    return [*lines, "  " + source.replace("\n", "\n  ") + "\n" if source else ""]


def _description(docstring: str) -> str:
    """Return a docstring without its example, which is for readers of the code."""
    return docstring.partition("\n>>>")[0].rstrip()


def _name(annotation: object) -> str:
    """Return a type as people write it: "int >= 1 | None", "'both' | 'norms'", "{lr, weight_decay}"."""
    from types import NoneType, UnionType
    from typing import Annotated, Literal, Union, get_args, get_origin

    from pydantic import BaseModel

    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [bound for field in inner[1:] for bound in _limits(getattr(field, "metadata", [field]))]
        return f"{_name(inner[0])} {', '.join(bounds)}".rstrip()
    if origin in {Union, UnionType}:
        return " | ".join(_name(each) for each in inner)
    if origin is Literal:
        return " | ".join(repr(each) for each in inner)
    if origin is not None:
        return f"{_name(origin)}[{', '.join(_name(each) for each in inner)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    return "None" if annotation is NoneType else getattr(annotation, "__name__", str(annotation))


def _limits(metadata: Sequence[object]) -> list[str]:
    symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [
        f"{sign} {getattr(bound, key)}" for bound in metadata for key, sign in symbols.items() if hasattr(bound, key)
    ]
