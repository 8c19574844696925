"""Images with label maps, and random windows of them, for the plain loops of segmenters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tlvision.types import IGNORE_INDEX, InputError

FLIP = 0.5


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its label map, if there is one."""

    image: Path
    mask: Path


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Return images and masks of the same stem, by name; InputError if a mask is missing."""
    pairs = [Pair(path, masks / f"{path.stem}.png") for path in sorted(images.iterdir()) if path.is_file()]
    for pair in pairs:
        if not pair.mask.is_file():
            raise InputError(f"parity: the image '{pair.image}' has no label map '{pair.mask}'")
    if not pairs:
        raise InputError(f"parity: there are no images in '{images}'")
    return pairs


def random_window(pixels: Tensor, labels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return a random square of an image and of its label map, mirrored at random.

    pixels: (3, H, W) float32. labels: (H, W) int64.

    Returns (3, side, side) and (side, side); beyond a smaller image 0 and IGNORE_INDEX.
    """
    height, width = labels.shape
    right, below = max(0, side - width), max(0, side - height)
    pixels = functional.pad(pixels, (0, right, 0, below))
    labels = functional.pad(labels, (0, right, 0, below), value=IGNORE_INDEX)
    x = int(torch.randint(width + right - side + 1, ()))
    y = int(torch.randint(height + below - side + 1, ()))
    window = slice(y, y + side), slice(x, x + side)
    pixels, labels = pixels[:, *window], labels[window]
    if torch.rand(()).item() < FLIP:
        pixels, labels = pixels.flip(2), labels.flip(1)
    return pixels, labels
