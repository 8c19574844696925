"""The class scores are squeezed, which takes a single class away."""

from __future__ import annotations

from tlvision_toy.detector import Head
from tlvision_toy.plugin import ToyPlugin


class Squeezing(Head):
    def forward(self, levels):
        logits, raw = super().forward(levels)
        return [level.squeeze(1) for level in logits], raw


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.head.__class__ = Squeezing
        return adapter, report


plugin = Broken()
