"""What training images go through, as it stands in a config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MAX_SIDE = 16_384
"""Largest side of a network input or a window of it, in pixels."""


class StrongView(BaseModel):
    """How the strong view of an image looks: its geometry is that of the weak one, pixel by pixel.

    The kinds and their sizes follow the common practice of semi-supervised detection (Liu et al., "Unbiased Teacher for
    Semi-Supervised Object Detection", ICLR 2021, appendix). 0 switches each off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    colour: float = Field(0.8, ge=0, le=1, description="probability of another brightness, contrast, saturation, hue")
    brightness: float = Field(0.4, ge=0, lt=1, description="with colour: multiplied by 1 - this to 1 + this")
    contrast: float = Field(0.4, ge=0, lt=1, description="with colour: about the mean, by 1 - this to 1 + this")
    saturation: float = Field(0.4, ge=0, lt=1, description="with colour: multiplied by 1 - this to 1 + this")
    hue: float = Field(0.1, ge=0, le=0.5, description="with colour: shifted by up to this part of the colour circle")
    grey: float = Field(0.2, ge=0, le=1, description="probability of no colour at all")
    blur: float = Field(0.5, ge=0, le=1, description="probability of a Gaussian blur of 0.1 to 2 pixels")
    erase: float = Field(0.5, ge=0, le=1, description="probability that rectangles are painted over")
    erase_count: int = Field(
        3, ge=1, le=100, description="with erase: at most so many rectangles, of 2 to 10 % of the image"
    )


class AugmentSettings(BaseModel):
    """Random changes to training images; 0 switches each off. Evaluation images are never changed.

    >>> AugmentSettings(rotate=10).rotate
    10.0
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

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
    strong: float = Field(
        0.0, ge=0, le=1, description="probability that a labelled image is seen as `strong_view` says"
    )
    strong_view: StrongView = Field(StrongView(), description="the strong view of unlabelled images, and of these")
    crop: int = Field(
        0,
        ge=0,
        le=MAX_SIDE,
        description="side of a random window of the image, in pixels of the network input; 0: the whole image",
    )
    crop_limit: float = Field(
        0.75, gt=0, le=1, description="with crop, label maps: look for a window of which no class fills more than this"
    )
    crop_class_aware: float = Field(
        0.0, ge=0, le=1, description="with crop, label maps: probability of a window around a class, all classes alike"
    )
