"""The groups hold every tensor, but not the dropout between them, which goes on dropping."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Leaky(DetectorAdapter):
    @property
    def groups(self):
        stem, stage1, stage2, stage3, _, *rest = groups = super().groups
        layers = tuple(f"backbone.stage4.{number}" for number in range(4))  # number 4 is the dropout
        return (stem, stage1, stage2, stage3, replace(groups[4], modules=layers), *rest)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Leaky
        return adapter, report


plugin = Broken()
