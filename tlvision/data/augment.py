"""Random geometry and colour: each draw is one matrix per source image, and one look-up table per colour channel.

The distributions follow the common practice of YOLO training (Bochkovskiy et al. 2020, "YOLOv4", section 3.3, for the
mosaic): four images of `canvas` size around a random centre, then one random affine map about the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tlvision.data.geometry import (
    Matrix,
    Region,
    flip_horizontal,
    flip_vertical,
    invert,
    letterbox,
    rotate,
    scale,
    shear,
    stretch,
    translate,
)
from tlvision.types import InputSpec, Pixels

if TYPE_CHECKING:
    from tlvision.data.settings import AugmentSettings


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """The placement of one source image on the canvas.

    matrix: (3, 3) float64, original image pixels -> output pixels.
    region: x0, y0, x1, y1 in original image pixels, the part that is painted; None means all of it.
    """

    matrix: Matrix
    region: Region | None


def random_affine(
    rng: np.random.Generator, settings: AugmentSettings, canvas: tuple[int, int], size: tuple[int, int]
) -> Matrix:
    """Draw the map from a canvas (height, width) to the output of `size` (height, width), about their middles.

    The generator advances equally for all settings, so that switching one off leaves the others as they were.
    """
    gain, turn, slant_x, slant_y, shift_x, shift_y = rng.uniform(-1, 1, 6)
    mirror, upset = rng.random(2)
    middle = translate(-canvas[1] / 2, -canvas[0] / 2)
    matrix = scale(*(1 + settings.scale * gain,) * 2) @ middle
    if settings.rotate:
        matrix = rotate(settings.rotate * turn) @ matrix
    if settings.shear:
        matrix = shear(settings.shear * slant_x, settings.shear * slant_y) @ matrix
    shift = settings.translate * np.array([shift_x, shift_y])
    matrix = translate((0.5 + shift[0]) * size[1], (0.5 + shift[1]) * size[0]) @ matrix
    if mirror < settings.flip:
        matrix = flip_horizontal(size[1]) @ matrix
    if upset < settings.flip_vertical:
        matrix = flip_vertical(size[0]) @ matrix
    return matrix


def fit(size: tuple[int, int], canvas: tuple[int, int], spec: InputSpec) -> Matrix:
    """Return letterbox or stretch by `spec`; both sizes are (height, width)."""
    return stretch(size, canvas) if spec.resize == "stretch" else letterbox(size, canvas, spec.place)


def place_one(
    rng: np.random.Generator, settings: AugmentSettings, size: tuple[int, int], output: tuple[int, int], spec: InputSpec
) -> Placement:
    """Place a single image of `size` (height, width)."""
    return Placement(random_affine(rng, settings, output, output) @ fit(size, output, spec), None)


def place_mosaic(
    rng: np.random.Generator,
    settings: AugmentSettings,
    sizes: Sequence[tuple[int, int]],
    output: tuple[int, int],
    spec: InputSpec,
) -> list[Placement]:
    """Place four images of `sizes` (height, width) around a random centre of a canvas of twice the output.

    They touch the centre with one corner each, in the order top left, top right, bottom left, bottom right; what
    leaves the canvas is cut off. The canvas is never made: each image gets its own map to the output.
    """
    height, width = 2 * output[0], 2 * output[1]
    centre_x, centre_y = rng.uniform(0.25, 0.75, 2) * (width, height)
    affine = random_affine(rng, settings, (height, width), output)
    placements = []
    for number, size in enumerate(sizes):
        fitted = fit(size, output, spec)
        fitted[:2, 2] = 0  # its size counts here, not its place in a letterbox
        x = centre_x - (number % 2 == 0) * fitted[0, 0] * size[1]
        y = centre_y - (number < 2) * fitted[1, 1] * size[0]
        placed = translate(x, y) @ fitted
        placements.append(Placement(affine @ placed, _seen(placed, size, (height, width))))
    return placements


def _seen(placed: Matrix, size: tuple[int, int], canvas: tuple[int, int]) -> Region:
    """Return the part of an image that lies on the canvas, in image pixels."""
    back = invert(placed)
    x0, y0 = back[:2, 2]
    x1, y1 = back[:2, :2] @ (canvas[1], canvas[0]) + back[:2, 2]
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(size[1])), min(y1, float(size[0]))


def jitter_colour(rng: np.random.Generator, settings: AugmentSettings, image: Pixels) -> None:
    """Shift hue, saturation and brightness of an (H, W, 3) RGB uint8 image, in place."""
    hue, saturation, value = rng.uniform(-1, 1, 3)
    if not (settings.hue or settings.saturation or settings.value):
        return
    levels = np.arange(256, dtype=np.float64)
    tables = np.empty((1, 256, 3), np.uint8)
    # OpenCV keeps 8-bit hue in half degrees, 0..179.
    tables[0, :, 0] = (levels + hue * settings.hue * 180) % 180
    tables[0, :, 1] = np.clip(levels * (1 + saturation * settings.saturation), 0, 255)
    tables[0, :, 2] = np.clip(levels * (1 + value * settings.value), 0, 255)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    cv2.LUT(hsv, tables, dst=hsv)
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=image)
