"""A detector gives its boxes as masks."""

from __future__ import annotations

from dataclasses import replace

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Masked(DetectorAdapter):
    def predict(self, images):
        height, width = images.shape[2:]
        return [
            replace(prediction, masks=torch.ones((len(prediction), height, width), dtype=torch.uint8))
            for prediction in super().predict(images)
        ]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Masked
        return adapter, report


plugin = Broken()
