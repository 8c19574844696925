"""The module `mmcv._ext`: which functions it has, and how it is put in place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any

from tlvision_openmmlab.mmcv_ops import (
    boxes,
    carafe,
    deform_conv,
    deform_roi_pool,
    focal_loss,
    info,
    masked_conv,
    ms_deform_attn,
    nms,
    psamask,
    roi_align,
    roi_pool,
    sync_bn,
)
from tlvision_openmmlab.mmcv_ops.uncovered import UNCOVERED

NAME = "mmcv._ext"

OPERATORS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        **nms.OPERATORS,
        **boxes.OPERATORS,
        **roi_align.OPERATORS,
        **roi_pool.OPERATORS,
        **deform_roi_pool.OPERATORS,
        **deform_conv.OPERATORS,
        **ms_deform_attn.OPERATORS,
        **masked_conv.OPERATORS,
        **carafe.OPERATORS,
        **psamask.OPERATORS,
        **focal_loss.OPERATORS,
        **sync_bn.OPERATORS,
        **info.OPERATORS,
    }
)
"""Name in `mmcv._ext` -> function with the signature that `mmcv.ops` calls it with; each file has its own part."""


class Extension(ModuleType):
    """Stands in for the compiled `mmcv._ext`. What it does not cover is there too, and raises when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in UNCOVERED:
            return uncovered(name)
        raise AttributeError(
            f"mmcv._ext has no operator '{name}', neither in tlvision_openmmlab.mmcv_ops nor in mmcv 2.1"
        )


def uncovered(name: str) -> Callable[..., Any]:
    """Return a function that raises NotImplementedError, which names the operator and the models that need it."""

    def missing(*arguments: object, **options: object) -> None:
        raise NotImplementedError(
            f"mmcv's operator '{name}' is not covered by tlvision_openmmlab.mmcv_ops; it serves {UNCOVERED[name]}: "
            "choose another model, or install a compiled mmcv, which is then used in place of this"
        )

    return missing


def install() -> bool:
    """Put the stand-in in place; return whether it is there: False if a real compiled mmcv is used instead.

    Raises ImportError with the pip command where there is no mmcv at all.
    """
    present = sys.modules.get(NAME)
    if present is not None:
        return isinstance(present, Extension)
    if find_spec("mmcv") is None:
        raise ImportError(
            "tlvision_openmmlab.mmcv_ops completes mmcv-lite, the pure-Python mmcv, and neither that nor mmcv is "
            "installed: pip install 'mmcv-lite>=2.1,<2.2'",
            name="mmcv",
        )
    if find_spec(NAME) is not None:  # imports the package mmcv, which imports no operator
        return False
    extension = Extension(NAME)
    extension.__spec__ = ModuleSpec(NAME, None)
    vars(extension).update(OPERATORS)
    sys.modules[NAME] = extension
    sys.modules["mmcv"]._ext = extension  # type: ignore[attr-defined]  # as an import of a submodule does
    return True
