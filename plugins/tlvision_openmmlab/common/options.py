"""`model.options` of a config. Imports pydantic and no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tlvision.plugin import BuildSpec
from tlvision.plugin.class_weights import ClassWeights, weights_in_order
from tlvision.types import InputError


class OpenmmlabOptions(BaseModel):
    """Options of a model of mmdet or mmseg besides its config and weights.

    backbone: a model of timm in the place of the config's own backbone, "timm/<name>". What reads its maps gets their
              channels, and images are normalised as timm's weights expect; see `tlvision_timm.backbone.TimmBackbone`.
    class_weights: of detectors of mmdet with a softmax cross entropy in the region heads (Faster, Mask, Cascade R-CNN):
              how much each class counts in it, a list in class order, or by class name, where a class that is not named
              has 1. The background has 1. Other detectors, and mmseg, refuse it.

    >>> OpenmmlabOptions(backbone="timm/convnext_tiny").backbone
    'timm/convnext_tiny'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    backbone: Annotated[str, Field(pattern=r"^timm/.+")] | None = None
    class_weights: ClassWeights | None = None


def class_weights_option(spec: BuildSpec) -> tuple[float, ...] | None:
    """Return a weight for each class, None if there are none or all are 1. InputError if a name is no class."""
    options = spec.options
    if not isinstance(options, OpenmmlabOptions):
        return None
    weights = weights_in_order(options.class_weights, spec.classes.names)
    return None if weights is None or set(weights) == {1.0} else weights


def backbone_option(spec: BuildSpec) -> str | None:
    """Return the backbone of timm that takes the place of the config's; None if none does.

    Raises InputError for the zoo's checkpoint of the config with another backbone, and for options of another plugin.
    """
    options = spec.options if spec.options is not None else OpenmmlabOptions()
    if not isinstance(options, OpenmmlabOptions):
        raise InputError(f"model.options: expected OpenmmlabOptions, got {type(options).__name__}")
    if options.backbone is not None and spec.weights in ("coco", "pretrained"):
        raise InputError(
            f"model.weights: '{spec.weights}' is a checkpoint with the config's own backbone, but "
            f"model.options.backbone is '{options.backbone}'; give 'imagenet' for the backbone only, 'none' or a path"
        )
    return options.backbone
