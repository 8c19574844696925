"""The boxes of predictions are mirrored left and right."""

from __future__ import annotations

from dataclasses import replace

import torch

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Mirrored(DetectorAdapter):
    def predict_with_gradients(self, images):
        mirrored = []
        for prediction in super().predict_with_gradients(images):
            x0, y0, x1, y1 = prediction.boxes.unbind(1)
            boxes = torch.stack([images.shape[3] - x1, y0, images.shape[3] - x0, y1], 1)
            mirrored.append(replace(prediction, boxes=boxes))
        return mirrored


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Mirrored
        return adapter, report


plugin = Broken()
