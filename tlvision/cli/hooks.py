"""`tlvision hooks`."""

from __future__ import annotations

import argparse


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

    from tlvision.cli.field_text import default_text, docstring_text, field_text
    from tlvision.hooks.registry import hook_class, hook_schema, kind_name

    found = hook_class(name)
    lines = [f"{name}  ({kind_name(found)})"]
    lines.append("  " + docstring_text(found).replace("\n", "\n  "))
    for parameter, field in hook_schema(found).model_fields.items():
        lines.append(f"  - {parameter}: {field_text(field)} ({default_text(field)})")
    source = inspect.cleandoc(sys.modules[found.__module__].__doc__ or "").partition("\n\n")[2]
    return [*lines, "  " + source.replace("\n", "\n  ") + "\n" if source else ""]
