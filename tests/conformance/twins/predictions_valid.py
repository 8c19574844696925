"""Scores are given as logits."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Raw(DetectorAdapter):
    def predict_with_gradients(self, images):
        return [
            replace(prediction, scores=prediction.scores.logit())
            for prediction in super().predict_with_gradients(images)
        ]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Raw
        return adapter, report


plugin = Broken()
