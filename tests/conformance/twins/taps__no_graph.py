"""features() cuts the graph, so that no domain loss can reach the backbone."""

from __future__ import annotations

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Cut(DetectorAdapter):
    def features(self, images):
        with torch.no_grad():
            return super().features(images)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Cut
        return adapter, report


plugin = Broken()
