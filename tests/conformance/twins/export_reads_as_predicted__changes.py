"""Its export moves a parameter, after it has looked at the model."""

from __future__ import annotations

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Moving(DetectorAdapter):
    def export_graphs(self, images):
        graphs = super().export_graphs(images)
        with torch.no_grad():
            self.module.head.scales[0] += 1e-6
        return graphs


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Moving
        return adapter, report


plugin = Broken()
