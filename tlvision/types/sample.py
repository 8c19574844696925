"""One image of a dataset with its labels, before any pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.types.target import Target

Polygons = tuple[npt.NDArray[np.float32], ...]
"""The outline of one object: one (K, 2) float32 array of x, y per part, in pixels of the original image."""

Rle = dict[str, Any]
"""A COCO run-length mask: {"size": [height, width], "counts": bytes}, always in the compressed form."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelMapFile:
    """The label map of an image, as a picture of the image's size.

    path:     a PNG with one 8-bit channel (greyscale or palette, whose indices count), or, where `coloured`, three:
              the value of a pixel is then red + 256 green + 65536 blue, as in COCO's panoptic format.
    values:   what each value means: a class index, or IGNORE_INDEX if nothing is known. Others may not occur.
    """

    path: Path
    values: Mapping[int, int]
    coloured: bool = False


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image of which no label is known.

    image_id:  a number of its own within its dataset.
    path:      where the image file lies.
    width, height: size in pixels, as decoded.
    exif:      whether the rotation that the file's EXIF header asks for is applied when it is decoded.
    bits:      of a file with 16-bit values: how many of the 16 are in use, 8..16.
    """

    image_id: int
    path: Path
    width: int
    height: int
    exif: bool = False
    bits: int = 16


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """The place of an image in a video.

    number: of the frame, counted from 0.
    time:   at which it is shown, in seconds from the start of the video.
    """

    number: int
    time: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One image and its labels, in COCO's own terms.

    image_id:  the id of the image in its json.
    path:      where the image file lies.
    width, height: size in pixels in the json; the decoded image must have it.
    target:    boxes, labels and crowd in pixels of the original image; `masks` and `semantic` are None here
               (they are rendered from `segments` after the warp).
    segments:  one entry per object, in the order of `target`: polygons, an RLE, or None if the file has neither.
    exif:      whether the rotation that the file's EXIF header asks for is applied when it is decoded; False if it
               asks for none, or where the labels were drawn on the image as stored.
    label_map: for semantic tasks, the file of the label map; None if the labels are objects.
    bits:      of a file with 16-bit values: how many of the 16 are in use, 8..16.
    origin:    of a tile, the image file that it is cut from.
    frame:     the place in the video that `path` names; None for an image file.

    Raises ValueError if segments and objects differ in number or the size is not positive.
    """

    image_id: int
    path: Path
    width: int
    height: int
    target: Target
    segments: tuple[Polygons | Rle | None, ...]
    exif: bool = True
    label_map: LabelMapFile | None = None
    bits: int = 16
    origin: Path | None = None
    frame: VideoFrame | None = None

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"Sample {self.image_id}: expected a positive size, got {self.width} x {self.height}")
        if len(self.segments) != len(self.target):
            raise ValueError(
                f"Sample {self.image_id}: expected {len(self.target)} segments, one an object, got {len(self.segments)}"
            )
