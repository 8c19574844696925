"""Features are put together in float32 whatever their dtype is, which autocast does not bear."""

from __future__ import annotations

import torch

from tlvision_toy.detector import Pyramid
from tlvision_toy.plugin import ToyPlugin


class Mixing(Pyramid):
    def forward(self, stages):
        levels = super().forward(stages)
        for number, level in enumerate(levels):
            whole, every = torch.zeros_like(level), torch.arange(len(level))
            whole[every] = level.float()[every]
            levels[number] = whole
        return levels


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.neck.__class__ = Mixing
        return adapter, report


plugin = Broken()
