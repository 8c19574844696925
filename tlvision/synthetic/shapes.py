"""Drawn images: coloured shapes on noise, one colour and one shape a class, so that every model can learn them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.types import IGNORE_INDEX

COLOURS = ((230, 60, 40), (40, 200, 70), (50, 80, 240), (230, 210, 40), (200, 60, 220), (60, 210, 220))
"""RGB of the shapes of class 0, 1, …; they come round again after the last."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One object to draw: its class, and its box as fractions of the image's width and height (x0, y0, x1, y1)."""

    label: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A drawn image with its boxes, labels and masks.

    image:    (H, W, 3) uint8 RGB.
    boxes:    (M, 4) float32, x0 y0 x1 y1 in pixels of `image`, from the outer edge of the top-left pixel.
    labels:   (M,) int64 class index.
    masks:    (M, H, W) uint8, 1 where the object is visible, not covered by a later one.
    semantic: (H, W) uint8 class index per pixel; `background` outside all shapes.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8]


def draw(size: tuple[int, int], shapes: Sequence[Shape], *, seed: int = 0, background: int = IGNORE_INDEX) -> Drawing:
    """Draw `shapes` on noise; of two that overlap, the later one is on top.

    size:       height and width in pixels.
    background: the value of the label map outside all shapes.

    >>> drawing = draw((40, 80), [Shape(2, (0.5, 0.25, 0.75, 1.0))])
    >>> drawing.boxes.tolist(), drawing.labels.tolist(), int(drawing.semantic[30, 50])
    ([[40.0, 10.0, 60.0, 40.0]], [2], 2)
    """
    height, width = size
    rng = np.random.default_rng(seed)
    image = rng.integers(70, 130, (height, width, 3), dtype=np.uint8)
    semantic = np.full((height, width), background, np.uint8)
    boxes = np.zeros((len(shapes), 4), np.float32)
    masks = np.zeros((len(shapes), height, width), np.uint8)
    for row, shape in enumerate(shapes):
        x0, x1 = (round(value * width) for value in shape.box[::2])
        y0, y1 = (round(value * height) for value in shape.box[1::2])
        inside = np.zeros((height, width), np.uint8)
        inside[y0:y1, x0:x1] = _stencil(shape.label, y1 - y0, x1 - x0)
        shade = rng.integers(-20, 20, (height, width, 1))
        colour = np.clip(np.array(COLOURS[shape.label % len(COLOURS)]) + shade, 0, 255).astype(np.uint8)
        image[inside > 0] = colour[inside > 0]
        semantic[inside > 0] = shape.label
        masks[:row, inside > 0] = 0
        masks[row] = inside
        boxes[row] = x0, y0, x1, y1
    return Drawing(image, boxes, np.array([shape.label for shape in shapes], np.int64), masks, semantic)


def _stencil(label: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width) uint8, 1 inside: a rectangle, an ellipse or a rhombus that touches all four sides."""
    stencil = np.zeros((height, width), np.uint8)
    if label % 3 == 0:
        stencil[:] = 1
    elif label % 3 == 1:
        centre, axes = ((width - 1) / 2, (height - 1) / 2), (width, height)
        cv2.ellipse(stencil, (centre, axes, 0.0), 1, thickness=-1)
    else:
        corners = [(width // 2, 0), (width - 1, height // 2), (width // 2, height - 1), (0, height // 2)]
        cv2.fillConvexPoly(stencil, np.array(corners, np.int32), 1)
    return stencil
