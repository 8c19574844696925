"""The graph is cut behind the stem."""

from __future__ import annotations

from tlvision_toy.backbone import Stem
from tlvision_toy.plugin import ToyPlugin


class Cut(Stem):
    def forward(self, images):
        return super().forward(images).detach()


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.backbone.stem.__class__ = Cut
        return adapter, report


plugin = Broken()
