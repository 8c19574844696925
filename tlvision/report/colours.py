"""Colours of classes, in pictures and in plots: stable by index and safe for the colour-blind.

Source of the first seven: Okabe and Ito, Color Universal Design, 2008 (their black is left out: it is the halo).
"""

from __future__ import annotations

Rgb = tuple[int, int, int]

PALETTE: tuple[Rgb, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Later rounds through the palette are mixed with white (positive) or black (negative), so that 84 classes differ.
_MIX = (0.0, 0.5, -0.45, 0.25, -0.25, 0.7, -0.6, 0.38, -0.35, 0.6, -0.15, 0.13)


def class_colour(index: int) -> Rgb:
    """Return the red, green and blue (0..255) of the class with this contiguous index; it repeats after 84 classes.

    >>> class_colour(0), class_colour(1)
    ((230, 159, 0), (86, 180, 233))
    """
    colour = PALETTE[index % len(PALETTE)]
    mix = _MIX[index // len(PALETTE) % len(_MIX)]
    towards = 255 if mix > 0 else 0
    red, green, blue = (round(value + abs(mix) * (towards - value)) for value in colour)
    return red, green, blue


def text_colour(background: Rgb) -> Rgb:
    """Return black or white, whichever has the higher contrast to `background` (as WCAG 2 defines it)."""
    linear = [((value / 255 + 0.055) / 1.055) ** 2.4 if value > 10 else value / 255 / 12.92 for value in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
