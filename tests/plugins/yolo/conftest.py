"""Build YOLO adapters for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap, Target
from tlvision_yolo.plugin import plugin

Build = Callable[..., Any]


@pytest.fixture
def build() -> Build:
    """Return `build(arch, names, weights)`, which gives the adapter and the weight report."""

    def build(arch: str = "yolov8n", names: Sequence[str] = ("a", "b", "c"), weights: object = "none") -> Any:
        torch.manual_seed(0)
        return plugin.build(BuildSpec(arch=arch, weights=str(weights), classes=ClassMap.from_names(tuple(names))))

    return build


@pytest.fixture
def make_target() -> Callable[..., Target]:
    """Return `make_target([[x0, y0, x1, y1, label], …])`."""

    def make(rows: Sequence[Sequence[float]] = ()) -> Target:
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
        return Target(boxes=table[:, :4], labels=table[:, 4].long(), crowd=torch.zeros(len(table), dtype=torch.bool))

    return make
