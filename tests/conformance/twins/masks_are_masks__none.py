"""Boxes are predicted without their masks."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import InstanceAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "toy-instance"


class Maskless(InstanceAdapter):
    def predict(self, images):
        return [replace(prediction, masks=None) for prediction in super().predict(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, InstanceAdapter):
            adapter.__class__ = Maskless
        return adapter, report


plugin = Broken()
