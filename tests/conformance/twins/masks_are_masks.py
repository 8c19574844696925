"""Masks stay at half the size of the input."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import InstanceAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "toy-instance"


class Half(InstanceAdapter):
    def predict(self, images):
        return [replace(prediction, masks=prediction.masks[:, ::2, ::2]) for prediction in super().predict(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, InstanceAdapter):
            adapter.__class__ = Half
        return adapter, report


plugin = Broken()
