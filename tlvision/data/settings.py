"""Define the settings of training images.

- `AugmentSettings`: the section `data.augment` of a config, with `StrongView` for the strong view.
- `SubsetSettings`: the section `data.train.subset`.
- `InputSettings`: augmentation, network input size, canvas, seed and cache, as the dataset of a run needs them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_SEED = 2**32 - 1
"""numpy's generators take no larger seed."""
MAX_SIDE = 16_384
"""Largest side of a network input or a window of it, in pixels."""

Canvas = Literal["square", "fitted"]


class SubsetSettings(BaseModel):
    """A part of the images, drawn with a seed. Exactly one of `fraction`, `count`, `per_class` and `fold` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    fraction: float | None = Field(None, gt=0, le=1, description="Share of the images.")
    count: int | None = Field(None, ge=1, description="Number of images.")
    per_class: int | None = Field(
        None, ge=1, description="Images of each class, at least; all of a class that has fewer."
    )
    fold: list[int] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="`[i, k]`: k equal parts. Training takes the images outside of part i (from 0), validation part i.",
    )
    stratify: bool = Field(True, description="Give each part its share of the images of every class.")
    group_by: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Images of a group stay together. A key of the `images` rows of the json (`patient`), or a regular "
        r"expression with one group in parentheses that is searched in the file name (`^(\d+)_`).",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the draw.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("fraction", "count", "per_class", "fold") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of fraction, count, per_class and fold, got {given or 'none'}")
        if self.fold is not None and not 0 <= self.fold[0] < self.fold[1]:
            raise ValueError(f"expected fold: [i, k] with i from 0 to k - 1, got {self.fold}")
        if self.per_class is not None and self.group_by is not None:
            raise ValueError("per_class draws single images and cannot keep groups; use count or fraction")
        if self.pattern is not None and self.pattern.groups != 1:
            raise ValueError(f"group_by: expected one group in parentheses, got '{self.group_by}'")
        return self

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """Return `group_by` as a regular expression; None if it is a key. ValueError if it is no expression."""
        if self.group_by is None or "(" not in self.group_by:
            return None
        try:
            return re.compile(self.group_by)
        except re.error as error:
            raise ValueError(f"group_by: '{self.group_by}' is no regular expression ({error})") from None


class StrongView(BaseModel):
    """Changes from the weak to the strong view of an image. Both views have the same geometry.

    Kinds and strengths follow Liu et al., "Unbiased Teacher for Semi-Supervised Object Detection", ICLR 2021, appendix.
    0 switches each off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    colour: float = Field(
        0.8, ge=0, le=1, description="Probability of a change of brightness, contrast, saturation and hue."
    )
    brightness: float = Field(0.4, ge=0, lt=1, description="Brightness is multiplied by 1 - b to 1 + b.")
    contrast: float = Field(0.4, ge=0, lt=1, description="Contrast about the mean is multiplied by 1 - c to 1 + c.")
    saturation: float = Field(0.4, ge=0, lt=1, description="Saturation is multiplied by 1 - s to 1 + s.")
    hue: float = Field(0.1, ge=0, le=0.5, description="Maximum shift of the hue (fraction of the colour circle).")
    grey: float = Field(0.2, ge=0, le=1, description="Probability of a conversion to grey.")
    blur: float = Field(0.5, ge=0, le=1, description="Probability of a Gaussian blur (0.1 to 2 pixels).")
    erase: float = Field(0.5, ge=0, le=1, description="Probability that rectangles are erased.")
    erase_count: int = Field(
        3, ge=1, le=100, description="Maximum number of erased rectangles, each 2 to 10 % of the image."
    )


class TileSettings(BaseModel):
    """Windows of large images, so that small objects keep their size: training images are cut, predictions merged.

    An image that is not larger than a tile stays whole. Give `size` about the number of pixels that one network input
    shows without being shrunk, which is `data.image_size`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    size: int = Field(0, ge=0, le=MAX_SIDE, description="Side of a tile (pixels of the image). 0: no tiles.")
    overlap: float = Field(0.2, ge=0, le=0.9, description="Least overlap of neighbours (fraction of a tile).")
    whole: bool = Field(True, description="Also use the whole image, for objects larger than a tile.")
    min_visible: float = Field(
        0.3, gt=0, le=1, description="Training: least share of an object's area in a tile for it to be learned there."
    )
    empty: float = Field(0.2, ge=0, le=1, description="Training: share of the tiles without an object that are kept.")
    merge: Literal["nms", "wbf"] = Field(
        "nms",
        description="Objects that several tiles have found: `nms` keeps the best one, `wbf` takes the mean of their "
        "boxes, weighted by score.",
    )
    iou: float = Field(0.5, gt=0, le=1, description="IoU from which objects of two tiles are the same one.")


class SamplingSettings(BaseModel):
    """How often each training image comes, by the classes in it. An epoch keeps its number of images."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: Literal["uniform", "repeat_factor", "class_balanced"] = Field(
        "uniform",
        description="`uniform`: all alike. `repeat_factor`: images of rare classes more often, by the square root. "
        "`class_balanced`: every class alike.",
    )
    threshold: float = Field(
        0.3, gt=0, le=1, description="Share of the images below which a class counts as rare for `repeat_factor`."
    )
    max_repeat: float = Field(
        10.0, ge=1, description="How many times more often than the others an image comes at most."
    )


_FLIPS = {"none": (0.0, 0.0), "horizontal": (0.5, 0.0), "vertical": (0.0, 0.5), "both": (0.5, 0.5)}


class AugmentSettings(BaseModel):
    """Augmentation of training images. 0 switches each kind off. Evaluation images are not augmented.

    Flips and rotation change what some images mean (text, left and right hands, X-rays, boards with an orientation):
    they are off by default but for the horizontal flip. `flip: none | horizontal | vertical | both` sets both flips.

    >>> AugmentSettings(rotate=10).rotate
    10.0
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    mosaic: float = Field(1.0, ge=0, le=1, description="Probability of a mosaic of four images.")
    mosaic_off: float = Field(0.1, ge=0, le=1, description="Fraction at the end of the run without mosaics.")
    scale: float = Field(0.5, ge=0, lt=1, description="Size is multiplied by 1 - scale to 1 + scale.")
    translate: float = Field(0.1, ge=0, le=1, description="Maximum shift along each axis (fraction of the image size).")
    rotate: float = Field(0.0, ge=0, le=180, description="Maximum rotation in both directions (degrees).")
    shear: float = Field(0.0, ge=0, lt=60, description="Maximum shear along x and y in both directions (degrees).")
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    flip_vertical: float = Field(0.0, ge=0, le=1, description="Probability of a vertical flip.")
    mixup: float = Field(
        0.0, ge=0, le=1, description="Probability of a MixUp with another image. Ends with the mosaics; no label maps."
    )
    cutmix: float = Field(
        0.0, ge=0, le=1, description="Probability of a rectangle of another image. Ends with the mosaics."
    )
    copy_paste: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability of objects that are copied from another image by their masks. Ends with the mosaics.",
    )
    hue: float = Field(
        0.015, ge=0, le=0.5, description="Maximum shift of the hue in both directions (fraction of the colour circle)."
    )
    saturation: float = Field(0.7, ge=0, le=1, description="Saturation is multiplied by 1 - s to 1 + s.")
    value: float = Field(0.4, ge=0, le=1, description="Brightness is multiplied by 1 - v to 1 + v.")
    gamma: float = Field(0.0, ge=0, le=1, description="Probability of a gamma curve (exponent 0.6 to 1.6).")
    clahe: float = Field(0.0, ge=0, le=1, description="Probability of local contrast equalisation (CLAHE).")
    blur: float = Field(0.0, ge=0, le=1, description="Probability of a Gaussian blur (0.3 to 2 pixels).")
    noise: float = Field(0.0, ge=0, le=1, description="Probability of Gaussian noise (2 to 13 of 255).")
    jpeg: float = Field(0.0, ge=0, le=1, description="Probability of JPEG compression (quality 30 to 90).")
    cutout: float = Field(0.0, ge=0, le=1, description="Probability of 1 to 3 erased rectangles, 2 to 10 % each.")
    strong: float = Field(0.0, ge=0, le=1, description="Probability of the strong view for a labelled image.")
    strong_view: StrongView = Field(
        StrongView(), description="Strong view of unlabelled images, and of labelled ones with `strong`."
    )
    crop: int = Field(
        0,
        ge=0,
        le=MAX_SIDE,
        description="Side of a random window (pixels of the network input). 0: the whole image.",
    )
    crop_limit: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Label maps with `crop`: maximum share of one class in a window, for 10 tries.",
    )
    crop_class_aware: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Label maps with `crop`: probability of a window around a class, drawn uniformly.",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_flip(cls, values: Any) -> Any:
        name = values.get("flip") if isinstance(values, dict) else None
        if not isinstance(name, str) or name not in _FLIPS:
            return values
        horizontal, vertical = _FLIPS[name]
        return {**values, "flip": horizontal, "flip_vertical": values.get("flip_vertical", vertical)}

    @field_validator("flip", mode="before")
    @classmethod
    def _known_flip(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"expected a probability, or one of {', '.join(_FLIPS)}")
        return value

    @property
    def mixes(self) -> bool:
        """Return whether inputs are made of two images."""
        return bool(self.mixup or self.cutmix or self.copy_paste)


@dataclass(frozen=True, slots=True)
class InputSettings:
    """Settings that turn images into network inputs for training, the same for labelled and unlabelled images.

    image_size:  long side of the network input in pixels, rounded up to the model's multiple.
    augment:     the augmentation.
    canvas:      "square", or "fitted": no larger than the image asks for, as at evaluation, and windows of it no
                 larger than it. Mosaics are square.
    seed:        all random numbers follow from it and from the position in the stream.
    cache_bytes: size of the cache of decoded images; None chooses by the memory of the machine.

    >>> InputSettings(640, AugmentSettings(mosaic=0), seed=7).canvas
    'square'
    """

    image_size: int
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    canvas: Canvas = "square"
    seed: int = 0
    cache_bytes: int | None = None
