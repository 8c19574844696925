"""Its export says that more boxes are suppressed than the model suppresses."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Suppressing(DetectorAdapter):
    def export_graphs(self, images):
        graphs = super().export_graphs(images)
        return replace(graphs, decoder=replace(graphs.decoder, nms_iou=0.3))


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Suppressing
        return adapter, report


plugin = Broken()
