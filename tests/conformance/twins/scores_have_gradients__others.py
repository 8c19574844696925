"""The scores with gradients are other scores, those before the sigmoid."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Logits(DetectorAdapter):
    def predict(self, images):
        return [replace(each, scores=each.scores.sigmoid()) for each in super().predict(images)]

    def predict_with_gradients(self, images):
        return [replace(each, scores=each.scores.logit()) for each in super().predict_with_gradients(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Logits
        return adapter, report


plugin = Broken()
