"""Build segmenters of smp for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap, Target
from tlvision_smp.plugin import plugin

Build = Callable[..., Any]


@pytest.fixture
def build() -> Build:
    """Return `build(arch, names, weights, options)`, which gives the adapter and the weight report."""

    def build(
        arch: str = "unet/mobilenet_v2",
        names: Sequence[str] = ("a", "b", "c"),
        weights: object = "none",
        **options: Any,
    ) -> Any:
        torch.manual_seed(0)
        chosen = plugin.options_type()(**options) if options else None
        classes = ClassMap.from_names(tuple(names))
        return plugin.build(BuildSpec(arch=arch, weights=str(weights), classes=classes, options=chosen))

    return build


@pytest.fixture
def target_of() -> Callable[[Any], Target]:
    """Return `target_of(label_map)`, a target with nothing but an (H, W) label map, or None."""

    def make(label_map: Any) -> Target:
        return Target(
            boxes=torch.zeros((0, 4)),
            labels=torch.zeros(0, dtype=torch.int64),
            crowd=torch.zeros(0, dtype=torch.bool),
            semantic=label_map,
        )

    return make
