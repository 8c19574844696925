"""loss() turns the order of the objects round in the batch that the hooks look at next."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Sorting(DetectorAdapter):
    def loss(self, images, targets):
        for target in targets:
            target.boxes.copy_(target.boxes.flip(0))
            target.labels.copy_(target.labels.flip(0))
        return super().loss(images, targets)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Sorting
        return adapter, report


plugin = Broken()
