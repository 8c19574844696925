"""The labels of predictions are in the reverse order."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Reversed(DetectorAdapter):
    def predict(self, images):
        last = self.module.head.classify.out_channels - 1
        return [replace(prediction, labels=last - prediction.labels) for prediction in super().predict(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Reversed
        return adapter, report


plugin = Broken()
