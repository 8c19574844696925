"""The loss is a sum over the images."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Summing(DetectorAdapter):
    def loss(self, images, targets):
        return {name: loss * len(images) for name, loss in super().loss(images, targets).items()}


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Summing
        return adapter, report


plugin = Broken()
