"""The scores are cut from the model."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Detached(DetectorAdapter):
    def predict_with_gradients(self, images):
        return [replace(each, scores=each.scores.detach()) for each in super().predict_with_gradients(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Detached
        return adapter, report


plugin = Broken()
