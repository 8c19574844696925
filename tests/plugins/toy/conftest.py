"""Small scenes that all three toy models can learn by heart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tlvision.plugin import Adapter, BuildSpec, WeightReport, get_plugin
from tlvision.types import ClassMap, Target

Builder = Callable[..., tuple[Adapter, WeightReport]]


@pytest.fixture
def build() -> Builder:
    """Build a toy model for the given class names, from fixed random weights."""

    def make(arch: str, names: tuple[str, ...], weights: str = "none") -> tuple[Adapter, WeightReport]:
        torch.manual_seed(0)
        spec = BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(names), image_size=128)
        return get_plugin("toy").build(spec)

    return make


@pytest.fixture
def scenes() -> tuple[Tensor, list[Target]]:
    """Four images of 96 x 128 with coloured rectangles of three classes, off centre, and one image without any."""
    generator = torch.Generator().manual_seed(0)
    images = 0.2 * torch.randn((4, 3, 96, 128), generator=generator)
    layout = [
        [(0, (5, 6, 37, 30)), (2, (70, 50, 122, 91))],
        [(1, (60, 4, 90, 60)), (0, (3, 60, 40, 92))],
        [(2, (88, 8, 124, 40)), (1, (10, 40, 70, 60))],
        [],
    ]
    targets = []
    for index, objects in enumerate(layout):
        semantic = torch.full((96, 128), 3, dtype=torch.int64)
        masks = torch.zeros((len(objects), 96, 128), dtype=torch.uint8)
        for mask, (label, (x0, y0, x1, y1)) in zip(masks, objects, strict=True):
            images[index, label, y0:y1, x0:x1] += 1.5
            semantic[y0:y1, x0:x1] = label
            mask[y0:y1, x0:x1] = 1
        targets.append(
            Target(
                boxes=torch.tensor([box for _, box in objects], dtype=torch.float32).reshape(-1, 4),
                labels=torch.tensor([label for label, _ in objects], dtype=torch.int64),
                crowd=torch.zeros(len(objects), dtype=torch.bool),
                masks=masks,
                semantic=semantic,
            )
        )
    return images, targets
