"""`model.options` of a config. Imports pydantic and no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tlvision.plugin.class_weights import ClassWeights


class TorchvisionOptions(BaseModel):
    """Options of a model of torchvision besides its architecture and weights. Not all models have all of them.

    class_weights: how much each class counts in the loss of classes: a list in class order, or by class name, where a
                   class that is not named has 1. Segmenters and R-CNNs take them in the cross entropy, whose
                   background has 1; RetinaNet and FCOS multiply the focal loss of the class. SSDlite has none.
    focal_alpha:   RetinaNet and FCOS: share of the loss that an object has, 0..1, against the background's 1 - alpha.
                   None for upstream's 0.25.
    focal_gamma:   RetinaNet and FCOS: how much less a sure prediction counts, >= 0. None for upstream's 2.

    >>> TorchvisionOptions(class_weights={"crack": 3.0}).class_weights
    {'crack': 3.0}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    class_weights: ClassWeights | None = None
    focal_alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    focal_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def given(self) -> tuple[str, ...]:
        """Return the names of the options that are set.

        >>> TorchvisionOptions(focal_gamma=1.5).given()
        ('focal_gamma',)
        """
        return tuple(self.model_dump(exclude_none=True))
