"""Values of nested mappings by their dotted keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in `value` that is no mapping, and of empty mappings.

    prefix: key of `value` itself. A value that is no mapping is its own leaf.

    >>> list(leaves({"train": {"lr": 0.1, "milestones": [1, 2]}, "hooks": {}}))
    [('train.lr', 0.1), ('train.milestones', [1, 2]), ('hooks', {})]
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
