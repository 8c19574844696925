"""The adapter keeps an average of its losses outside of the model, and divides by it."""

from __future__ import annotations

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Balancing(DetectorAdapter):
    average = 1.0

    def loss(self, images, targets):
        losses = super().loss(images, targets)
        balanced = {**losses, "loss_box": losses["loss_box"] / self.average}
        if torch.is_grad_enabled():
            self.average += 0.001 * (losses["loss_box"].item() - self.average)
        return balanced


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Balancing
        return adapter, report


plugin = Broken()
