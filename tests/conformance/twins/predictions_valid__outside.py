"""Boxes may reach beyond the network input."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Beyond(DetectorAdapter):
    def predict_with_gradients(self, images):
        limit = images.new_tensor([0, 0, images.shape[3], images.shape[2]])
        predictions = super().predict_with_gradients(images)
        return [replace(each, boxes=each.boxes + (each.boxes == limit) * (limit - 0.5)) for each in predictions]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Beyond
        return adapter, report


plugin = Broken()
