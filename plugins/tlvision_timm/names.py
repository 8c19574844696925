"""Names of timm's models, as configs have them: "timm/convnext_tiny". Importing it imports neither torch nor timm."""

from __future__ import annotations

import importlib
from typing import Any

from tlvision.types import InputError, nearest

PREFIX = "timm/"


def is_timm(backbone: str) -> bool:
    """Return whether a backbone is named as one of timm.

    >>> is_timm("timm/convnext_tiny"), is_timm("resnet50")
    (True, False)
    """
    return backbone.startswith(PREFIX)


def timm_name(backbone: str) -> str:
    """Return timm's own name of a backbone.

    >>> timm_name("timm/vit_small_patch14_dinov2.lvd142m")
    'vit_small_patch14_dinov2.lvd142m'
    """
    return backbone.removeprefix(PREFIX)


def import_timm() -> Any:
    """Import timm; InputError with the pip command if it is not installed."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError(
            f"model: a backbone of timm needs timm, which is not installed ({error}); pip install 'tlvision[timm]'"
        ) from error


def check_name(name: str) -> None:
    """Raise InputError with the nearest name if timm has no model `name`."""
    timm = import_timm()
    if not timm.is_model(name):
        raise InputError(f"model: timm has no model '{name}'.{nearest(name, timm.list_models())}")
