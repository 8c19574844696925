"""Two stages of the backbone are declared the wrong way round."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Swapped(DetectorAdapter):
    @property
    def groups(self):
        stem, stage1, stage2, stage3, *rest = super().groups
        return (stem, stage1, stage3, stage2, *rest)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Swapped
        return adapter, report


plugin = Broken()
