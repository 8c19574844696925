"""The images require a gradient, so that the frozen part builds a graph for nothing."""

from __future__ import annotations

import torch

from tlvision_toy.backbone import Backbone
from tlvision_toy.plugin import ToyPlugin


class Grasping(Backbone):
    def forward(self, images):
        if torch.is_grad_enabled():
            images = images.detach().clone().requires_grad_()
        return super().forward(images)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.backbone.__class__ = Grasping
        return adapter, report


plugin = Broken()
