"""Lay out the objects on a plate: geometry only, so that annotations depend on no pixel and no codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 256, 192
"""Size of every image in pixels."""

Points = npt.NDArray[np.float64]
"""(K, 2) x, y in image pixels; it may reach outside the image."""


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One object that is labelled.

    kind:   class name.
    parts:  closed outlines, in image pixels, not clipped.
    centre: x, y in image pixels.
    axes:   half lengths in pixels along and across `angle`; a screw's radius twice.
    angle:  in radians, from x towards y.
    path:   centre line of a scratch, else no points.
    """

    kind: str
    parts: tuple[Points, ...]
    centre: Points
    axes: tuple[float, float]
    angle: float = 0.0
    path: Points = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Frequency and size of the objects in one domain.

    defects:       {class name: probability of each of up to three in an image}.
    screw_radius:  smallest and largest in pixels; one value for a whole plate.
    missing:       probability that a screw position is empty.
    bare:          probability of an image without any object.
    """

    defects: Mapping[str, float]
    screw_radius: tuple[float, float]
    missing: float
    bare: float


class _Occupied:
    """Keeps objects apart: discs that are taken."""

    def __init__(self) -> None:
        self._discs: list[tuple[float, float, float]] = []

    def free(self, centre: Points, radius: float) -> bool:
        return all(np.hypot(centre[0] - x, centre[1] - y) > radius + taken for x, y, taken in self._discs)

    def take(self, centre: Points, radius: float) -> None:
        self._discs.append((float(centre[0]), float(centre[1]), radius))


def place(rng: np.random.Generator, recipe: Recipe) -> tuple[Mark, ...]:
    """Draw the objects of one plate, in the order in which they are painted."""
    if rng.random() < recipe.bare:
        return ()
    occupied = _Occupied()
    screws = _screw_pattern(rng, recipe, occupied)
    defects: list[Mark] = []
    for kind, chance in recipe.defects.items():
        for _ in range(3):
            if rng.random() < chance:
                defects += _try_place(rng, kind, occupied)
    return (*defects, *screws)


def _screw_pattern(rng: np.random.Generator, recipe: Recipe, occupied: _Occupied) -> list[Mark]:
    """A rectangular bolt pattern, turned a little, of which the image shows a part."""
    radius = rng.uniform(*recipe.screw_radius)
    pitch = rng.uniform(3.2, 5.5, size=2) * 12.0
    angle = rng.uniform(-0.12, 0.12)
    columns, rows = (int(count) for count in rng.integers(1, 4, size=2))
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * pitch
    origin = rng.uniform((-20.0, -20.0), (WIDTH * 0.6, HEIGHT * 0.6))
    marks = []
    for centre in grid @ _rotation(angle).T + origin:
        turn, empty = rng.uniform(0.0, np.pi), rng.random() < recipe.missing
        if not _inside(centre, 3.0):
            continue
        occupied.take(centre, radius + 2.0)
        kind = "missing_screw" if empty else "screw"
        marks.append(Mark(kind, (_ellipse(centre, (radius, radius), 0.0),), centre, (radius, radius), turn))
    return marks


def _try_place(rng: np.random.Generator, kind: str, occupied: _Occupied) -> list[Mark]:
    """Place one defect where there is room; none after eight attempts."""
    for _ in range(8):
        mark = _DRAW[kind](rng)
        if kind == "scratch":
            discs = [(point, 4.0) for point in mark.path[::3] if _inside(point, 0.0)]
        else:
            discs = [(mark.centre, max(mark.axes) * 0.9)]
        if all(occupied.free(centre, radius) for centre, radius in discs):
            for centre, radius in discs:
                occupied.take(centre, radius)
            return [mark]
    return []


def _scratch(rng: np.random.Generator) -> Mark:
    length = 22.0 * (6.0 ** rng.random())
    angle = rng.uniform(0.0, np.pi)
    bend = rng.uniform(-0.15, 0.15) * length
    width = rng.uniform(1.2, 3.0)
    along = np.linspace(-1.0, 1.0, 13)
    centre = _somewhere(rng, 6.0)
    wobble = np.interp(along, np.linspace(-1.0, 1.0, 5), rng.uniform(-0.02, 0.02, size=5) * length)
    local = np.stack([along * length / 2, bend * (1.0 - along**2) + wobble], axis=1)
    path = local @ _rotation(angle).T + centre
    outline = ribbon(path, width / 2 + 0.6)
    return Mark("scratch", (outline,), centre, (length / 2, width), angle, path)


def ribbon(path: Points, half_width: float) -> Points:
    """Return the outline of a stroke along `path` that is thinner towards both ends."""
    taper = half_width * (1.0 - 0.6 * np.abs(np.linspace(-1.0, 1.0, len(path))) ** 3)
    tangent = np.gradient(path, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / np.hypot(tangent[:, 0], tangent[:, 1])[:, None]
    sides = normal * taper[:, None]
    return np.concatenate([path + sides, (path - sides)[::-1]])


def _dent(rng: np.random.Generator) -> Mark:
    major = rng.uniform(7.0, 24.0)
    axes, angle, centre = (major, major * rng.uniform(0.55, 1.0)), rng.uniform(0.0, np.pi), _somewhere(rng, 4.0)
    return Mark("dent", (_ellipse(centre, axes, angle),), centre, axes, angle)


def _rust(rng: np.random.Generator) -> Mark:
    """Return an irregular patch with up to two islands: one object in several parts."""
    size = 8.0 * (4.0 ** rng.random())
    centre = _somewhere(rng, 4.0)
    parts = [_blob(rng, centre, size, waves=7, roughness=0.3)]
    for _ in range(int(rng.integers(0, 3))):
        turn = rng.uniform(0.0, 2 * np.pi)
        island = centre + size * 1.45 * np.array([np.cos(turn), np.sin(turn)])
        parts.append(_blob(rng, island, size * rng.uniform(0.12, 0.22), waves=3, roughness=0.2))
    return Mark("rust", tuple(parts), centre, (size, size))


def _paint_chip(rng: np.random.Generator) -> Mark:
    size = 5.0 * (3.2 ** rng.random())
    centre = _somewhere(rng, 4.0)
    turns = np.sort(rng.uniform(0.0, 2 * np.pi, size=9))
    radii = size * rng.uniform(0.55, 1.1, size=9)
    corners = centre + np.stack([np.cos(turns) * radii * 1.25, np.sin(turns) * radii], axis=1)
    return Mark("paint_chip", (corners,), centre, (size, size))


_DRAW = {"scratch": _scratch, "dent": _dent, "rust": _rust, "paint_chip": _paint_chip}


def _blob(rng: np.random.Generator, centre: Points, size: float, *, waves: int, roughness: float) -> Points:
    turns = np.linspace(0.0, 2 * np.pi, 36, endpoint=False)
    radius = np.ones_like(turns)
    for wave in range(2, 2 + waves):
        phase, height = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.0, roughness) / np.sqrt(wave)
        radius += height * np.sin(wave * turns + phase)
    return np.asarray(centre + size * radius[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1))


def _ellipse(centre: Points, axes: tuple[float, float], angle: float) -> Points:
    turns = np.linspace(0.0, 2 * np.pi, 28, endpoint=False)
    upright: Points = np.stack([axes[0] * np.cos(turns), axes[1] * np.sin(turns)], axis=1)
    return np.asarray(upright @ _rotation(angle).T + centre)


def _rotation(angle: float) -> Points:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _somewhere(rng: np.random.Generator, margin: float) -> Points:
    """A centre inside the image, so that a border cuts at most about half of an object."""
    return rng.uniform((margin, margin), (WIDTH - margin, HEIGHT - margin))


def _inside(point: Points, margin: float) -> bool:
    return bool(margin <= point[0] <= WIDTH - margin and margin <= point[1] <= HEIGHT - margin)


def clip_to_image(outline: Points) -> Points:
    """Cut a closed outline at the image border (Sutherland and Hodgman, 1974), rounded to eighths of a pixel.

    Rounded, so that the last digit of a platform's sine does not reach the json; eighths are exact in float32.
    Returns (0, 2) where nothing is left.

    >>> clip_to_image(np.array([[-5.0, 1.0], [5.0, 1.0], [5.0, 9.0], [-5.0, 9.0]])).tolist()
    [[0.0, 1.0], [5.0, 1.0], [5.0, 9.0], [0.0, 9.0]]
    """
    points = outline
    for axis, limit, sign in ((0, 0.0, 1.0), (0, float(WIDTH), -1.0), (1, 0.0, 1.0), (1, float(HEIGHT), -1.0)):
        depth = sign * (points[:, axis] - limit)
        kept: list[Points] = []
        for index in range(len(points)):
            here, there = points[index - 1], points[index]
            if (depth[index - 1] >= 0) != (depth[index] >= 0):
                share = depth[index - 1] / (depth[index - 1] - depth[index])
                kept.append(here + share * (there - here))
            if depth[index] >= 0:
                kept.append(there)
        points = np.array(kept).reshape(-1, 2)
    return np.round(points * 8.0) / 8.0 + 0.0  # + 0.0: no -0.0 in the json
