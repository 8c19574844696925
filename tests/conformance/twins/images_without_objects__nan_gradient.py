"""The square root of nothing: a finite loss with a gradient that is not."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Rooted(DetectorAdapter):
    def loss(self, images, targets):
        losses = super().loss(images, targets)
        if not any(len(target) for target in targets):
            return {**losses, "loss_scale": (self.module.head.scales - 1).square().sum().sqrt()}
        return losses


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Rooted
        return adapter, report


plugin = Broken()
