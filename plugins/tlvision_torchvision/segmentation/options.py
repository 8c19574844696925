"""`model.options` of a config. Imports pydantic and no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tlvision.plugin.class_weights import ClassWeights


class TorchvisionOptions(BaseModel):
    """Options of a segmenter of torchvision besides its architecture and weights; detectors have none.

    class_weights: how much the pixels of each class count in the cross entropy: a list in class order, or by class
                   name, where a class that is not named has 1.

    >>> TorchvisionOptions(class_weights={"crack": 3.0}).class_weights
    {'crack': 3.0}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    class_weights: ClassWeights | None = None
