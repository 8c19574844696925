"""A metric without gradient is among the losses."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Chatty(DetectorAdapter):
    def loss(self, images, targets):
        losses = super().loss(images, targets)
        return {**losses, "share": losses["loss_box"].detach() / (losses["loss_class"].detach() + 1)}


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Chatty
        return adapter, report


plugin = Broken()
