"""Say what sampling does, and which augmentations may change what the classes mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tlvision.config.schema import Config
from tlvision.types import listing

_SIDES = ({"left", "right"}, {"l", "r"}, {"links", "rechts"}, {"gauche", "droite"}, {"izquierda", "derecha"})


def mirrored_classes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of classes whose names differ in left and right only.

    >>> mirrored_classes(["left_hand", "right_hand", "head"])
    [('left_hand', 'right_hand')]
    """
    words = {name: [word.lower() for word in re.split(r"[\W_]+", name) if word] for name in names}
    return [
        (one, other)
        for number, one in enumerate(names)
        for other in names[number + 1 :]
        if _differ_in_side(words[one], words[other])
    ]


def _differ_in_side(one: Sequence[str], other: Sequence[str]) -> bool:
    if len(one) != len(other):
        return False
    different = [{first, second} for first, second in zip(one, other, strict=True) if first != second]
    return len(different) == 1 and different[0] in _SIDES


def augment_notes(config: Config, names: Sequence[str]) -> list[str]:
    """Return a sentence if a flip turns a class into another."""
    pairs = mirrored_classes(names)
    if not pairs or not config.data.augment.flip:
        return []
    shown = listing([f"'{one}' and '{other}'" for one, other in pairs], 3)
    return [
        f"data.augment.flip: a horizontal flip turns {shown} into each other, and their labels stay; set "
        "data.augment.flip: none"
    ]
