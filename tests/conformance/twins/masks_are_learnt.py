"""Masks lie some pixels too far to the right and below."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import InstanceAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "toy-instance"


class Shifted(InstanceAdapter):
    def predict(self, images):
        return [replace(each, masks=each.masks.roll((4, 4), (1, 2))) for each in super().predict(images)]


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, InstanceAdapter):
            adapter.__class__ = Shifted
        return adapter, report


plugin = Broken()
