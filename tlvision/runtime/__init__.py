"""Predict with exported models, on numpy and ONNX Runtime or OpenVINO alone: nothing here imports torch.

import tlvision.runtime
model = tlvision.runtime.load("exported")
prediction = model.predict("part.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlvision.runtime.model import RuntimeModel, load

__all__ = ["RuntimeModel", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `RuntimeModel` when they are first used."""
    if name in __all__:
        from tlvision.runtime import model

        return getattr(model, name)
    raise AttributeError(f"module 'tlvision.runtime' has no attribute '{name}'")
