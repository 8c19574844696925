"""The head drops at random in eval mode: somebody has turned the flag round."""

from __future__ import annotations

from torch.nn import functional

from tlvision_toy.detector import Head
from tlvision_toy.plugin import ToyPlugin


class Inverted(Head):
    def forward(self, levels):
        dropped = [functional.dropout(level, 0.02, training=not self.training) for level in levels]
        return super().forward(dropped)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.head.__class__ = Inverted
        return adapter, report


plugin = Broken()
