"""Every prediction is counted in a buffer of the model."""

from __future__ import annotations

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Counting(DetectorAdapter):
    def predict(self, images):
        self.module.head.predicted += len(images)
        return super().predict(images)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Counting
        adapter.module.head.register_buffer("predicted", torch.zeros(()), persistent=False)
        return adapter, report


plugin = Broken()
