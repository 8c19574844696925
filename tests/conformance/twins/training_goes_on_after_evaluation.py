"""The head keeps a grid as long as the shape stays, also one that was made in inference mode."""

from __future__ import annotations

import torch

from tlvision_toy.detector import Head
from tlvision_toy.plugin import ToyPlugin


class Caching(Head):
    def forward(self, levels):
        shape = levels[0].shape[-2:]
        if getattr(self, "shape", None) != shape:
            self.shape, self.grid = shape, torch.ones(shape)
        return super().forward([levels[0] * self.grid, *levels[1:]])


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.head.__class__ = Caching
        return adapter, report


plugin = Broken()
