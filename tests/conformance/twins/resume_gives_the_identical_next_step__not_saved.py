"""The loss is weighted by a running average in a buffer that is not part of the saved state."""

from __future__ import annotations

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Balancing(DetectorAdapter):
    def loss(self, images, targets):
        losses, average = super().loss(images, targets), self.module.head.average
        balanced = {**losses, "loss_box": losses["loss_box"] / float(average)}
        if torch.is_grad_enabled() and self.module.head.training:
            average += 0.001 * (losses["loss_box"].detach() - average)
        return balanced


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Balancing
        adapter.module.head.register_buffer("average", torch.ones(()), persistent=False)
        return adapter, report


plugin = Broken()
