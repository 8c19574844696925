"""The loss is divided by the number of objects."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Dividing(DetectorAdapter):
    def loss(self, images, targets):
        losses, count = super().loss(images, targets), sum(len(target) for target in targets)
        return {name: loss * len(targets) / count if count else loss / 0 for name, loss in losses.items()}


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Dividing
        return adapter, report


plugin = Broken()
