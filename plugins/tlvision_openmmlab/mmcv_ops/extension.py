"""The module `mmcv._ext`: which functions it has, and how it is put in place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any

from tlvision_openmmlab.mmcv_ops import nms, roi_align

NAME = "mmcv._ext"

OPERATORS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        **nms.OPERATORS,
        **roi_align.OPERATORS,
    }
)
"""Name in `mmcv._ext` -> function with the signature that `mmcv.ops` calls it with; each file has its own part."""


class Extension(ModuleType):
    """Stands in for the compiled `mmcv._ext`. What it does not cover is there too, and raises when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return uncovered(name)


def uncovered(name: str) -> Callable[..., Any]:
    """Return a function that raises NotImplementedError, which names the operator and the models that need it."""

    def missing(*arguments: object, **options: object) -> None:
        raise NotImplementedError(f"mmcv operator '{name}' is not covered by tlvision_openmmlab.mmcv_ops")

    return missing


def install() -> bool:
    """Put the stand-in in place; return whether it is there: False where a real compiled mmcv is used instead."""
    present = sys.modules.get(NAME)
    if present is not None:
        return isinstance(present, Extension)
    if find_spec(NAME) is not None:  # imports the package mmcv, which imports no operator
        return False
    extension = Extension(NAME)
    extension.__spec__ = ModuleSpec(NAME, None)
    vars(extension).update(OPERATORS)
    sys.modules[NAME] = extension
    return True
