"""`model.options` of a config. Imports pydantic and no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tlvision.plugin.class_weights import ClassWeights

LossName = Literal["cross_entropy", "focal", "dice", "jaccard", "lovasz", "tversky"]
_Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SmpOptions(BaseModel):
    """Options of a segmenter of smp besides its architecture and weights.

    losses:          the losses to add up, each with its weight.
    label_smoothing: share of the truth that cross entropy spreads evenly over all classes, 0 <= x < 1.
    class_weights:   how much each class counts: a list in class order, or by class name, where a class that is not
                     named has 1. In cross entropy it weights the pixels of the class, in the other losses the class's
                     share in the mean over classes. Lovász has none.

    Tversky counts false positives 0.3 and false negatives 0.7, as its authors do; focal has gamma 2.

    >>> SmpOptions(losses={"cross_entropy": 1.0}).class_weights is None
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    losses: dict[LossName, _Weight] = Field(default={"cross_entropy": 1.0, "dice": 1.0}, min_length=1)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    class_weights: ClassWeights | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.label_smoothing and "cross_entropy" not in self.losses:
            raise ValueError(
                f"label_smoothing is {self.label_smoothing}, but it is for cross_entropy, which losses does not have; "
                "add it or leave label_smoothing out"
            )
        if self.class_weights is not None and set(self.losses) == {"lovasz"}:
            raise ValueError("class_weights have no effect on lovasz. Add another loss or remove class_weights.")
        return self
