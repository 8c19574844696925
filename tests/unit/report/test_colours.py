"""Class colours are distinct, stable, and readable."""

from __future__ import annotations

from tlvision.report.colours import PALETTE, class_colour, text_colour


def test_eighty_classes_have_eighty_colours() -> None:
    colours = [class_colour(index) for index in range(84)]
    assert len(set(colours)) == 84
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert colours[:7] == list(PALETTE)
    assert class_colour(84) == class_colour(0)


def test_text_stands_out_from_every_class_colour() -> None:
    for index in range(84):
        background = class_colour(index)
        text = text_colour(background)
        lights = [sum(w * (c / 255) ** 2.2 for w, c in zip((0.2126, 0.7152, 0.0722), colour, strict=True))
                  for colour in (background, text)]  # fmt: skip
        contrast = (max(lights) + 0.05) / (min(lights) + 0.05)  # as WCAG defines it
        assert contrast >= 4.4, (index, background, contrast)
