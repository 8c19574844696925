"""The stem counts its batches in a buffer, also while it is frozen."""

from __future__ import annotations

import torch

from tlvision_toy.backbone import Stem
from tlvision_toy.plugin import ToyPlugin


class Counting(Stem):
    def forward(self, images):
        if torch.is_grad_enabled():
            self.batches += 1
        return super().forward(images)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.backbone.stem.__class__ = Counting
        adapter.module.backbone.stem.register_buffer("batches", torch.zeros(()), persistent=False)
        return adapter, report


plugin = Broken()
