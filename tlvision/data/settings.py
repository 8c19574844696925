"""What training images go through, as it stands in a config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class AugmentSettings(BaseModel):
    """Random changes to training images; 0 switches each off. Evaluation images are never changed.

    >>> AugmentSettings(rotate=10).rotate
    10.0
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mosaic: float = Field(1.0, ge=0, le=1, description="probability that an image is a mosaic of four")
    mosaic_off: float = Field(0.1, ge=0, le=1, description="fraction of the run, at its end, without mosaic")
    scale: float = Field(0.5, ge=0, lt=1, description="size is multiplied by 1 - scale to 1 + scale")
    translate: float = Field(0.1, ge=0, le=1, description="shift in both directions, as a fraction of the image size")
    rotate: float = Field(0.0, ge=0, le=180, description="turn by up to this many degrees either way")
    shear: float = Field(0.0, ge=0, lt=60, description="slant by up to this many degrees either way, along x and y")
    flip: float = Field(0.5, ge=0, le=1, description="probability of mirroring left and right")
    flip_vertical: float = Field(0.0, ge=0, le=1, description="probability of mirroring top and bottom")
    hue: float = Field(
        0.015, ge=0, le=0.5, description="shift of the hue either way, as a fraction of the colour circle"
    )
    saturation: float = Field(0.7, ge=0, le=1, description="saturation is multiplied by 1 - this to 1 + this")
    value: float = Field(0.4, ge=0, le=1, description="brightness is multiplied by 1 - this to 1 + this")
    crop: int = Field(
        0, ge=0, description="side of a random window of the image, in pixels of the network input; 0: the whole image"
    )
    crop_limit: float = Field(
        0.75, gt=0, le=1, description="with crop, label maps: look for a window of which no class fills more than this"
    )
    crop_class_aware: float = Field(
        0.0, ge=0, le=1, description="with crop, label maps: probability of a window around a class, all classes alike"
    )
