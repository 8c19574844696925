"""It says that it gives probabilities, and gives logits."""

from __future__ import annotations

from tlvision_toy.adapter import SegmenterAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "tiny_segmenter"


class Undeclared(SegmenterAdapter):
    score_kind = "probabilities"


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, SegmenterAdapter):
            adapter.__class__ = Undeclared
        return adapter, report


plugin = Broken()
