"""A layer is in two groups."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Greedy(DetectorAdapter):
    @property
    def groups(self):
        *rest, neck, head = super().groups
        return (*rest, replace(neck, modules=("neck", "head.shared")), head)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Greedy
        return adapter, report


plugin = Broken()
