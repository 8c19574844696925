"""A plate under a lamp: a height map, a colour and a gloss per pixel, lit by one lamp (Blinn-Phong shading)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.synthetic.inspection.layout import HEIGHT, WIDTH, Points

SCALE = 2
"""Everything is painted at twice the size and shrunk at the end, which smooths the edges."""

Grid = npt.NDArray[np.float32]
"""(HEIGHT * SCALE, WIDTH * SCALE) float32."""

Colour = tuple[float, float, float]
"""Red, green, blue in 0..1."""


@dataclass(slots=True, eq=False)
class Surface:
    """The lit surface, at twice the image size.

    height: in pixels above the plate.
    colour: (H, W, 3) RGB in 0..1.
    gloss:  strength of the mirror-like reflection, 0..1.
    """

    height: Grid
    colour: Grid
    gloss: Grid

    def paint(self, mask: Grid, colour: Colour | Grid, gloss: float) -> None:
        """Blend `colour` and `gloss` into the surface by `mask` (0..1)."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # most masks are small: only their rectangle
        share = mask[part]
        new = np.asarray(colour, np.float32)
        new = new[part] if new.ndim == 3 else new
        self.colour[part] += share[..., None] * (new - self.colour[part])
        self.gloss[part] += share * (np.float32(gloss) - self.gloss[part])


def noise(rng: np.random.Generator, cell: float) -> Grid:
    """Return smooth noise whose bumps are about `cell` image pixels wide, mean 0, deviation about 1."""
    rows, columns = max(2, round(HEIGHT / cell)), max(2, round(WIDTH / cell))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    size = (WIDTH * SCALE, HEIGHT * SCALE)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.float32)


def filled(parts: tuple[Points, ...], soften: float = 0.0) -> Grid:
    """Return a mask 0..1 of closed outlines given in image pixels, its edge blurred by `soften` image pixels."""
    mask = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    fixed = [np.round((part * SCALE - 0.5) * 16).astype(np.int32) for part in parts]
    cv2.fillPoly(mask, fixed, 255, lineType=cv2.LINE_AA, shift=4)
    grid = mask.astype(np.float32) / np.float32(255)
    return blurred(grid, soften) if soften > 0 else grid


def blurred(grid: Grid, sigma: float) -> Grid:
    """Blur by a Gaussian of `sigma` image pixels."""
    return np.asarray(cv2.GaussianBlur(grid, (0, 0), sigma * SCALE), np.float32)


def distance(centre: Points, axes: tuple[float, float], angle: float = 0.0) -> Grid:
    """Return for every pixel how far it is from `centre`, in units of the half axes: 1 on the ellipse."""
    y, x = np.ogrid[0 : HEIGHT * SCALE, 0 : WIDTH * SCALE]
    dx = ((x + 0.5) / SCALE - centre[0]).astype(np.float32)
    dy = ((y + 0.5) / SCALE - centre[1]).astype(np.float32)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = (dx * c + dy * s) / np.float32(axes[0]), (dy * c - dx * s) / np.float32(axes[1])
    return np.asarray(np.hypot(along, across), np.float32)


def ramp(grid: Grid, low: float, high: float) -> Grid:
    """Return 0 below `low`, 1 above `high`, and a smooth step between; falls where low > high."""
    t = np.clip((grid - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def brushed_steel(rng: np.random.Generator) -> Surface:
    """Bare steel, ground in one direction."""
    shape = (HEIGHT * SCALE, WIDTH * SCALE)
    grain = rng.standard_normal(shape, dtype=np.float32)
    fine, long = cv2.blur(grain, (25, 1)), cv2.blur(cv2.blur(grain, (121, 1)), (61, 1))
    lines = fine / fine.std() * 0.6 + long / long.std() * 0.7
    turn = cv2.getRotationMatrix2D((WIDTH * SCALE / 2, HEIGHT * SCALE / 2), rng.uniform(-12.0, 12.0), 1.15)
    lines = cv2.warpAffine(lines, turn, (shape[1], shape[0]), borderMode=cv2.BORDER_REFLECT)
    tone = rng.uniform(0.44, 0.58) + 0.035 * lines + 0.02 * noise(rng, 40)
    tint = np.array([1.0, 1.0 + rng.uniform(0.0, 0.02), 1.0 + rng.uniform(0.0, 0.05)], np.float32)
    colour = (tone[..., None] * tint).astype(np.float32)
    gloss = np.clip(0.45 + 0.12 * lines, 0.1, 0.8).astype(np.float32)
    return Surface((0.03 * lines + 0.3 * noise(rng, 90)).astype(np.float32), colour, gloss)


def enamelled(rng: np.random.Generator) -> Surface:
    """A painted casting with the dimples of a sprayed coat ("orange peel")."""
    greens = np.array([[0.20, 0.36, 0.36], [0.24, 0.38, 0.30], [0.22, 0.33, 0.42]], np.float32)
    base = greens[rng.integers(len(greens))] * np.float32(rng.uniform(0.85, 1.15))
    shade = (1.0 + 0.03 * noise(rng, 30) + 0.02 * noise(rng, 2))[..., None]
    peel = 0.10 * noise(rng, 3) + 0.22 * noise(rng, 7) + 0.5 * noise(rng, 60)
    gloss = np.full((HEIGHT * SCALE, WIDTH * SCALE), 0.35, np.float32)
    return Surface(peel.astype(np.float32), (base * shade).astype(np.float32), gloss)


@dataclass(frozen=True, slots=True)
class Lamp:
    """A lamp above the plate.

    position: x, y, z in image pixels.
    ambient:  light from everywhere else, 0..1.
    falloff:  distance in image pixels over which the light halves.
    """

    position: tuple[float, float, float]
    ambient: float
    falloff: float


def lit(surface: Surface, lamp: Lamp) -> Grid:
    """Return the (H, W, 3) RGB picture of `surface`, about 0..1, at twice the image size."""
    slope_x = cv2.Sobel(surface.height, cv2.CV_32F, 1, 0, ksize=3, scale=SCALE / 8)
    slope_y = cv2.Sobel(surface.height, cv2.CV_32F, 0, 1, ksize=3, scale=SCALE / 8)
    y, x = np.ogrid[0 : HEIGHT * SCALE, 0 : WIDTH * SCALE]
    lx = (lamp.position[0] - x / SCALE).astype(np.float32)
    ly = (lamp.position[1] - y / SCALE).astype(np.float32)
    lz = np.float32(lamp.position[2])
    reach = np.sqrt(lx * lx + ly * ly + lz * lz)
    steep = np.sqrt(slope_x * slope_x + slope_y * slope_y + 1.0)
    facing = (lz - slope_x * lx - slope_y * ly) / (reach * steep)
    # The viewer is straight above, so the half vector is the light's direction plus (0, 0, 1).
    half = np.sqrt((lx * lx + ly * ly) + (lz + reach) ** 2)
    mirror = np.clip((lz + reach - slope_x * lx - slope_y * ly) / (half * steep), 0.0, 1.0)
    for _ in range(5):  # to the 32nd power
        mirror = mirror * mirror
    fading = 1.0 / (1.0 + (reach - lz) / np.float32(lamp.falloff))
    diffuse = lamp.ambient + (1.15 - lamp.ambient) * np.clip(facing, 0.0, 1.0) * fading
    return np.asarray(surface.colour * diffuse[..., None] + (0.55 * surface.gloss * mirror * fading)[..., None])
