"""Each mask counts by its area, and one that is empty by none: 0 / 0."""

from __future__ import annotations

from tlvision_toy.adapter import InstanceAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "toy-instance"


class ByArea(InstanceAdapter):
    def loss(self, images, targets):
        losses = super().loss(images, targets)
        shares = [mask.sum() / mask.sum() for target in targets for mask in target.masks]
        return losses | {"loss_mask": losses["loss_mask"] * sum(shares) / max(len(shares), 1) + 0.0}


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, InstanceAdapter):
            adapter.__class__ = ByArea
        return adapter, report


plugin = Broken()
