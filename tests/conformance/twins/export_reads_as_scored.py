"""A segmenter whose exported graph has its classes in another order."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tlvision_toy.adapter import SegmenterAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "tiny_segmenter"


class Reversed(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images).flip(1)


class Turning(SegmenterAdapter):
    def export_graphs(self, images):
        graphs = super().export_graphs(images)
        graph = graphs.graphs["model"]
        return replace(graphs, graphs={"model": replace(graph, module=Reversed(graph.module).eval())})


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, SegmenterAdapter):
            adapter.__class__ = Turning
        return adapter, report


plugin = Broken()
