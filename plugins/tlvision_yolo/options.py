"""`model.options` of a config. Imports pydantic and no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tlvision.plugin.class_weights import ClassWeights


class YoloOptions(BaseModel):
    """Options of a YOLO besides its architecture and weights.

    class_weights: how much each class counts in the classification loss: a list in class order, or by class name, where
                   a class that is not named has 1. Upstream's trainer computes such weights from `cls_pw`.

    >>> YoloOptions(class_weights={"scratch": 3.0}).class_weights
    {'scratch': 3.0}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    class_weights: ClassWeights | None = None
