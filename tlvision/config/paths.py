"""Resolve relative paths in a config: from its own folder if the file exists there, else from the current folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlvision.files.inputs import exists

_DATASETS = ("train", "val", "source_val", "oracle", "target")
INPUTS = (
    ("model", "weights"),
    ("data", "classes"),
    ("data", "classes", "names"),
    *(("data", name, key) for name in _DATASETS for key in ("json", "images", "masks")),
)
"""Keys of paths that a run reads."""


def resolve_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with paths that exist in `folder` joined to it; other values are unchanged."""
    resolved = dict(values)
    for keys in INPUTS:
        resolved = _resolve(resolved, keys, folder)
    return resolved


def _resolve(values: dict[str, Any], keys: tuple[str, ...], folder: Path) -> dict[str, Any]:
    key, *below = keys
    value = values.get(key)
    if below:
        return {**values, key: _resolve(value, tuple(below), folder)} if isinstance(value, dict) else values
    if isinstance(value, str) and value and not Path(value).is_absolute() and exists(folder / _fixed(value)):
        return {**values, key: str(folder / value)}
    return values


def _fixed(value: str) -> Path:
    """Return a path, of a pattern such as `masks/{class}/{stem}.png` the folder before the first brace."""
    return Path(value) if "{" not in value else Path(value.split("{", 1)[0] + "x").parent
