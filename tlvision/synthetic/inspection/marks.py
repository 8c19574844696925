"""Paint screws, defects and harmless clutter on a surface."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tlvision.synthetic.inspection.layout import HEIGHT, WIDTH, Mark, Points, ribbon
from tlvision.synthetic.inspection.surface import SCALE, Grid, Surface, blurred, distance, filled, noise, ramp

RUST_TONES = ((0.42, 0.20, 0.09), (0.26, 0.12, 0.07))
PRIMER = (0.55, 0.53, 0.48)


def paint_mark(surface: Surface, mark: Mark, rng: np.random.Generator, *, painted: bool) -> None:
    """Paint one object; `painted` is the target domain's material, on which some classes look different."""
    if mark.kind == "screw":
        (_socket_screw if painted else _cross_screw)(surface, mark)
    elif mark.kind == "missing_screw":
        _empty_hole(surface, mark, painted=painted)
    elif mark.kind == "scratch":
        _scratch(surface, mark, rng, painted=painted)
    elif mark.kind == "dent":
        _dent(surface, mark, rng)
    elif mark.kind == "rust":
        _rust(surface, mark, rng)
    else:
        _paint_chip(surface, mark, rng)


def _cross_screw(surface: Surface, mark: Mark) -> None:
    """A domed zinc head with a cross recess."""
    radius = mark.axes[0]
    away = distance(mark.centre, mark.axes)
    head = ramp(away, 1.0, 0.93)
    _seat(surface, away)
    dome = np.sqrt(np.clip(1.3 - away * away, 0.0, None)) * np.float32(radius * 0.45)
    surface.height += head * (dome - surface.height)
    surface.paint(head, (0.66, 0.65, 0.60), 0.75)
    recess = np.zeros_like(away)
    for turn in (mark.angle, mark.angle + np.pi / 2):
        recess = np.maximum(recess, _bar(mark.centre, radius * 0.62, radius * 0.17, turn))
    surface.height -= recess * np.float32(radius * 0.3)
    surface.paint(recess * 0.85, (0.16, 0.15, 0.15), 0.1)


def _socket_screw(surface: Surface, mark: Mark) -> None:
    """A flat black-oxide head with a chamfer and a hexagonal socket."""
    radius = mark.axes[0]
    away = distance(mark.centre, mark.axes)
    head = ramp(away, 1.0, 0.94)
    _seat(surface, away)
    surface.height += head * (ramp(away, 1.0, 0.78) * np.float32(radius * 0.4) - surface.height)
    surface.paint(head, (0.13, 0.13, 0.14), 0.55)
    turns = mark.angle + np.arange(6) * np.pi / 3
    hexagon = mark.centre + 0.5 * radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    socket = filled((hexagon,))
    surface.height -= socket * np.float32(radius * 0.5)
    surface.paint(socket * 0.9, (0.03, 0.03, 0.03), 0.05)


def _empty_hole(surface: Surface, mark: Mark, *, painted: bool) -> None:
    """A countersink with a dark, threaded bore."""
    radius = mark.axes[0]
    away = distance(mark.centre, mark.axes)
    cone = ramp(away, 1.0, 0.95)
    surface.height += cone * (-np.clip(1.0 - away, 0.0, 0.45) * np.float32(radius * 0.9) - surface.height)
    surface.paint(cone, (0.40, 0.41, 0.40) if painted else (0.52, 0.52, 0.53), 0.5)
    bore = ramp(away, 0.60, 0.54)
    surface.paint(bore, (0.05, 0.05, 0.055), 0.0)
    thread = ramp(np.abs(away - 0.47), 0.05, 0.0) + ramp(np.abs(away - 0.32), 0.05, 0.0)
    surface.paint(thread * 0.5, (0.22, 0.21, 0.20), 0.3)


def _seat(surface: Surface, away: Grid) -> None:
    """The shadowed gap around a screw head."""
    shadow = ramp(away, 1.22, 1.0)
    surface.colour *= (1.0 - 0.55 * shadow)[..., None]
    surface.gloss *= 1.0 - 0.7 * shadow


def _bar(centre: Points, length: float, width: float, angle: float) -> Grid:
    """A rectangle of half sizes `length` and `width` as a mask."""
    c, s = np.cos(angle), np.sin(angle)
    corners = np.array([[-length, -width], [length, -width], [length, width], [-length, width]])
    return filled((corners @ np.array([[c, s], [-s, c]]) + centre,))


def _scratch(surface: Surface, mark: Mark, rng: np.random.Generator, *, painted: bool) -> None:
    """A groove with a raised burr; on paint it shows the primer."""
    width = mark.axes[1]
    core = filled((ribbon(mark.path, width * 0.5),), 0.25)
    groove = core * np.clip(0.9 + 0.3 * noise(rng, 9), 0.4, 1.0)
    surface.height += np.float32(0.4) * blurred(core, 0.7) - np.float32(0.9) * groove
    if painted:
        surface.paint(groove * 0.75, PRIMER, 0.3)
        return
    bright = rng.random() < 0.65
    surface.paint(groove * (0.65 if bright else 0.55), (0.86, 0.86, 0.88) if bright else (0.20, 0.20, 0.21), 0.6)


def _dent(surface: Surface, mark: Mark, rng: np.random.Generator) -> None:
    """A smooth hollow with a faint rim."""
    away = distance(mark.centre, mark.axes, mark.angle)
    depth = np.float32(min(mark.axes) * rng.uniform(0.26, 0.40))
    hollow = np.exp(-2.6 * away * away)
    rim = np.exp(-18.0 * (away - 0.92) ** 2)
    surface.height += depth * (np.float32(0.10) * rim - hollow)
    surface.gloss += np.float32(0.15) * hollow * (1.0 - surface.gloss)


def _rust(surface: Surface, mark: Mark, rng: np.random.Generator) -> None:
    """A mottled, rough patch whose edge stains the metal around it."""
    inside = filled(mark.parts, 1.2)
    crumbs = np.float32(0.30) * noise(rng, 2.5) + np.float32(0.15) * noise(rng, 1.2)
    body = ramp(np.asarray(inside + crumbs * blurred(inside, 1.0), np.float32), 0.2, 0.85)
    stain = blurred(body, 3.0)
    light, dark = (np.array(tone, np.float32) for tone in RUST_TONES)
    mottle = np.clip(0.5 + 0.35 * noise(rng, 5) + 0.25 * noise(rng, 2), 0.0, 1.0)[..., None]
    surface.paint(stain * 0.55, (0.48, 0.34, 0.20), 0.1)
    surface.paint(body * 0.9, light + mottle * (dark - light), 0.02)
    surface.height += body * (0.35 + 0.35 * noise(rng, 1.5))


def _paint_chip(surface: Surface, mark: Mark, rng: np.random.Generator) -> None:
    """A flake broken out of the coat: bare metal inside, a primer rim, a step that throws light."""
    flake = filled(mark.parts, 0.3)
    surface.height -= np.float32(1.4) * flake
    surface.paint(flake, PRIMER, 0.2)
    bare = filled(tuple(mark.centre + (part - mark.centre) * 0.74 for part in mark.parts), 0.5)
    metal = (0.60 + 0.05 * noise(rng, 2))[..., None] * np.array([1.0, 0.99, 0.97], np.float32)
    surface.paint(bare, metal.astype(np.float32), 0.6)


def paint_clutter(surface: Surface, rng: np.random.Generator, marks: Sequence[Mark]) -> None:
    """Add what an inspector must not report: seams, engraving, drilled holes, labels, dust, smears."""
    if rng.random() < 0.45:
        _seam(surface, rng)
    for _ in range(int(rng.integers(0, 3))):
        _plain_hole(surface, rng, marks)
    if rng.random() < 0.4:
        _engraving(surface, rng)
    if rng.random() < 0.3:
        _sticker(surface, rng, marks)
    if rng.random() < 0.5:
        smear = ramp(noise(rng, 45), 0.4, 1.6)
        surface.colour *= (1.0 - 0.18 * smear)[..., None]
        surface.gloss *= 1.0 - 0.6 * smear
    _dust(surface, rng)


def _seam(surface: Surface, rng: np.random.Generator) -> None:
    """A milled groove across the whole plate."""
    centre = rng.uniform((30.0, 30.0), (WIDTH - 30.0, HEIGHT - 30.0))
    upright = rng.random() < 0.5
    groove = _bar(centre, 400.0, rng.uniform(0.8, 2.2), np.pi / 2 * upright + rng.uniform(-0.05, 0.05))
    surface.height -= np.float32(1.6) * blurred(groove, 0.4)
    surface.paint(groove * 0.75, (0.10, 0.10, 0.11), 0.1)


def _plain_hole(surface: Surface, rng: np.random.Generator, marks: Sequence[Mark]) -> None:
    """A small drilled hole without countersink: no screw belongs into it."""
    centre, radius = rng.uniform((8.0, 8.0), (WIDTH - 8.0, HEIGHT - 8.0)), rng.uniform(2.0, 3.6)
    if _clear_of(centre, radius + 3.0, marks):
        away = distance(centre, (radius, radius))
        surface.height -= ramp(away, 1.25, 0.9) * np.float32(1.0)
        surface.paint(ramp(away, 1.05, 0.9), (0.06, 0.06, 0.065), 0.0)


def _engraving(surface: Surface, rng: np.random.Generator) -> None:
    """A part number, engraved."""
    text = f"{'ABCDEFGHKLMNPRST'[rng.integers(16)]}{rng.integers(10, 99)}-{rng.integers(100, 999)}"
    where = rng.integers((10, 20), (WIDTH - 90, HEIGHT - 10)) * SCALE
    mask = np.zeros(surface.height.shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(mask, text, (int(where[0]), int(where[1])), font, rng.uniform(0.45, 0.7) * SCALE, 255, 2, cv2.LINE_AA)
    engraved = mask.astype(np.float32) / np.float32(255)
    surface.height -= np.float32(0.8) * engraved
    surface.paint(engraved * 0.45, (0.18, 0.18, 0.19), 0.2)


def _sticker(surface: Surface, rng: np.random.Generator, marks: Sequence[Mark]) -> None:
    """A paper label with a bar code."""
    size = rng.uniform((20.0, 10.0), (30.0, 15.0))
    centre, angle = rng.uniform((20.0, 15.0), (WIDTH - 20.0, HEIGHT - 15.0)), rng.uniform(-0.2, 0.2)
    if not _clear_of(centre, float(size.max()), marks):
        return
    paper = _bar(centre, size[0], size[1], angle)
    surface.height += np.float32(0.5) * paper - paper * surface.height
    surface.paint(paper, (0.80, 0.79, 0.74), 0.05)
    along = np.array([np.cos(angle), np.sin(angle)])
    for offset in np.cumsum(rng.uniform(1.6, 4.0, size=14)):
        if offset < 2 * size[0] - 6.0:
            bar = _bar(centre + (offset + 2.0 - size[0]) * along, rng.uniform(0.4, 0.9), size[1] * 0.6, angle)
            surface.paint(bar, (0.08, 0.08, 0.09), 0.05)


def _dust(surface: Surface, rng: np.random.Generator) -> None:
    """Specks of one or two pixels."""
    mask = np.zeros(surface.height.shape, np.uint8)
    for x, y in rng.integers((0, 0), (WIDTH * SCALE, HEIGHT * SCALE), size=(int(rng.integers(0, 14)), 2)):
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(1, 3)), int(rng.integers(60, 200)), -1, cv2.LINE_AA)
    surface.paint(mask.astype(np.float32) / np.float32(255), (0.28, 0.27, 0.25), 0.0)


def _clear_of(centre: Points, radius: float, marks: Sequence[Mark]) -> bool:
    """True if a disc touches no outline's bounding box."""
    for mark in marks:
        points = np.concatenate(mark.parts)
        nearest = np.clip(centre, points.min(axis=0), points.max(axis=0))
        if np.hypot(*(nearest - centre)) < radius:
            return False
    return True
