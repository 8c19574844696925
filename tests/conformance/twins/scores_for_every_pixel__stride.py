"""Its scores are narrower than they are high."""

from __future__ import annotations

from tlvision.plugin import label_maps
from tlvision_toy.adapter import SegmenterAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "tiny_segmenter"


class Narrow(SegmenterAdapter):
    def dense_logits(self, images):
        return self.module(images)[..., ::2]

    def predict(self, images):
        return label_maps(self.dense_logits(images).detach(), images.shape[-2:])


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, SegmenterAdapter):
            adapter.__class__ = Narrow
        return adapter, report


plugin = Broken()
