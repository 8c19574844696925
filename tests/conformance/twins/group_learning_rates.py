"""A parameter is replaced in every forward pass, so that the optimizer moves one that is no longer used."""

from __future__ import annotations

from torch import nn

from tlvision_toy.detector import Head
from tlvision_toy.plugin import ToyPlugin


class Replacing(Head):
    def forward(self, levels):
        self.scales = nn.Parameter(self.scales.detach().clone(), requires_grad=self.scales.requires_grad)
        return super().forward(levels)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.head.__class__ = Replacing
        return adapter, report


plugin = Broken()
