"""It gives probabilities, and does not say so."""

from __future__ import annotations

from tlvision_toy.adapter import SegmenterAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "tiny_segmenter"


class Undeclared(SegmenterAdapter):
    def dense_logits(self, images):
        return self.module(images).softmax(dim=1)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, SegmenterAdapter):
            adapter.__class__ = Undeclared
        return adapter, report


plugin = Broken()
