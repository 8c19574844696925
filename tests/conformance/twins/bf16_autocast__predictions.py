"""Predictions come in whatever precision the evaluation runs in."""

from __future__ import annotations

import torch

from tlvision.types import Prediction
from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Careless(DetectorAdapter):
    def predict(self, images):
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        return [
            Prediction(boxes=found.boxes, scores=found.scores.to(dtype), labels=found.labels)
            for found in super().predict(images)
        ]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Careless
        return adapter, report


plugin = Broken()
