"""From a lit plate to the picture of an inspection camera: lamp, lens, haze, sensor, one setting per domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.synthetic.inspection.layout import HEIGHT, WIDTH, Mark
from tlvision.synthetic.inspection.marks import paint_clutter, paint_mark
from tlvision.synthetic.inspection.surface import Lamp, brushed_steel, enamelled, lit, noise

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Camera:
    """The appearance of a domain, as ranges from which every image is drawn.

    painted:  enamel instead of steel.
    lamp_x, lamp_y: where the lamp hangs, as a share of the image's width and height.
    lamp_z:   its height in pixels.
    ambient, falloff: see `Lamp`.
    blur:     lens blur, Gaussian sigma in pixels.
    haze:     share of the light that haze replaces.
    cast:     gains of red, green and blue.
    grain:    deviation of the sensor noise, 0..1.
    """

    painted: bool
    lamp_x: Range
    lamp_y: Range
    lamp_z: Range
    ambient: Range
    falloff: Range
    blur: Range
    haze: Range
    cast: tuple[float, float, float]
    grain: Range


def photograph(rng: np.random.Generator, camera: Camera, marks: Sequence[Mark]) -> npt.NDArray[np.uint8]:
    """Return the (HEIGHT, WIDTH, 3) uint8 BGR picture of a plate with `marks`, painted in their order."""
    surface = enamelled(rng) if camera.painted else brushed_steel(rng)
    paint_clutter(surface, rng, marks)
    for mark in marks:
        paint_mark(surface, mark, rng, painted=camera.painted)
    position = (rng.uniform(*camera.lamp_x) * WIDTH, rng.uniform(*camera.lamp_y) * HEIGHT, rng.uniform(*camera.lamp_z))
    picture = lit(surface, Lamp(position, rng.uniform(*camera.ambient), rng.uniform(*camera.falloff)))
    haze = rng.uniform(*camera.haze) * (1.0 + 0.25 * noise(rng, 80))[..., None]
    picture = picture + np.clip(haze, 0.0, 0.7) * (np.float32(0.62) - picture)
    small = cv2.resize(picture.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(*camera.blur))
    small = small * np.array(camera.cast, np.float32) * np.float32(rng.uniform(0.9, 1.1))
    small = small / (1.0 + np.maximum(small - 0.8, 0.0) * 1.2)  # highlights roll off as a sensor's do
    small += np.float32(rng.uniform(*camera.grain)) * rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32)
    pixels = np.round(np.clip(small, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., ::-1])
