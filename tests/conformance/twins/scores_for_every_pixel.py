"""Its label maps lie a pixel further to the right than its scores."""

from __future__ import annotations

from tlvision.plugin import label_maps
from tlvision_toy.adapter import SegmenterAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "tiny_segmenter"


class Shifted(SegmenterAdapter):
    def predict(self, images):
        return label_maps(self.module(images).detach().roll(1, 3), images.shape[-2:])


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, SegmenterAdapter):
            adapter.__class__ = Shifted
        return adapter, report


plugin = Broken()
