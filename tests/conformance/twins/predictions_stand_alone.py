"""Scores are relative to the best one in the batch."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Relative(DetectorAdapter):
    def predict_with_gradients(self, images):
        predictions = super().predict_with_gradients(images)
        best = max((float(each.scores.detach().max()) for each in predictions if len(each)), default=1.0)
        return [replace(each, scores=each.scores / best) for each in predictions]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Relative
        return adapter, report


plugin = Broken()
