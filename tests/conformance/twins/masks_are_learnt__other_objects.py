"""Boxes are sorted and their masks are not, so that each has the mask of another object."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import InstanceAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "toy-instance"


class Mixed(InstanceAdapter):
    def predict(self, images):
        return [replace(prediction, masks=prediction.masks.roll(1, 0)) for prediction in super().predict(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, InstanceAdapter):
            adapter.__class__ = Mixed
        return adapter, report


plugin = Broken()
