"""A stage puts its norms back into train mode whenever it is trained through."""

from __future__ import annotations

import torch

from tlvision_toy.backbone import Residual
from tlvision_toy.plugin import ToyPlugin


class Stubborn(Residual):
    def forward(self, x):
        if torch.is_grad_enabled():
            self.train()
        return super().forward(x)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.backbone.stage1.__class__ = Stubborn
        return adapter, report


plugin = Broken()
