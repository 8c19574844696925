"""Hooks of tlvision in the training loops of others; docs/bridges.md.

    tlvision.bridges.plain                          hand-written loops
    tlvision_bridges.mmengine                       TlvisionHook and TlvisionConstructor, for configs of mmdet and mmseg
    tlvision.bridges.ultralytics.attach             a model of ultralytics
    tlvision_bridges.transformers.attach            a Trainer of Hugging Face

Importing this package imports neither torch nor any of these libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlvision.bridges.loop import plain
    from tlvision.bridges.run import BridgeReport

__all__ = ["BridgeReport", "plain"]

_HOMES = {"plain": "tlvision.bridges.loop", "BridgeReport": "tlvision.bridges.run"}
_MODULES = ("ultralytics",)


def __getattr__(name: str) -> Any:
    """Import a bridge when it is first used."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'tlvision.bridges' has no attribute '{name}'")
