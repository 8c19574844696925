"""A model of five layer groups with every kind of norm, and its plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tlvision.hooks import Duration, Plan, initial_plan
from tlvision.plugin import LayerGroup, map_groups

GROUPS = (
    LayerGroup("stem", "stem", ("stem",)),
    LayerGroup("backbone.stage1", "backbone", ("stage1",)),
    LayerGroup("backbone.stage2", "backbone", ("stage2",)),
    LayerGroup("neck", "neck", ("neck",)),
    LayerGroup("head", "head", ("head",)),
)


class NormedModel(nn.Module):
    """Linear layers, each followed by another kind of norm; the head has none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.stage1 = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.5))
        self.stage2 = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4))
        self.neck = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in (self.stem, self.stage1, self.stage2, self.neck, self.head):
            x = stage(x)
        return x


@pytest.fixture
def model() -> NormedModel:
    torch.manual_seed(0)
    return NormedModel()


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Return the plan of a model over `epochs` epochs of ten steps."""

    def make(module: nn.Module, epochs: int = 10) -> Plan:
        return initial_plan(module, map_groups(module, GROUPS), Duration(epochs=epochs, steps_per_epoch=10))

    return make
