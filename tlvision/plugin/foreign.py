"""Recognise models of an upstream library without importing it."""

from __future__ import annotations

from collections.abc import Iterable


def is_instance_of(value: object, module: str, names: Iterable[str]) -> bool:
    """Return whether a class of `value`, or one that it derives from, is called one of `names` and is from `module`.

    module: the module that defines the class, or a package above it.

    >>> from collections import OrderedDict
    >>> is_instance_of(OrderedDict(), "collections", ("OrderedDict",)), is_instance_of({}, "collections", ("dict",))
    (True, False)
    """
    wanted = set(names)
    return any(
        kind.__name__ in wanted and (kind.__module__ == module or kind.__module__.startswith(f"{module}."))
        for kind in type(value).__mro__
    )
