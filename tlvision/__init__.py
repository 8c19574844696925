"""tlvision: transfer learning for detection and segmentation.

    import tlvision
    result = tlvision.train("quickstart")
    run = tlvision.load(result.run)
    prediction = run.predict("part.jpg")
    print(run.evaluate())
    run.export("bundle")

Importing it imports neither torch nor any plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlvision.engine.train import train
    from tlvision.trained_run import load

__all__ = ["load", "train"]

_HOMES = {"load": "tlvision.trained_run", "train": "tlvision.engine.train"}


def __getattr__(name: str) -> Any:
    """Import `train`, `load` and `bridges` when they are first used."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    if name == "bridges":
        from importlib import import_module

        return import_module("tlvision.bridges")
    raise AttributeError(f"module 'tlvision' has no attribute '{name}'")
