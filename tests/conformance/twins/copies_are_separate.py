"""A copy of the adapter still runs the first one's module."""

from __future__ import annotations

from tlvision.plugin import tap_features
from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Careless(DetectorAdapter):
    def features(self, images):
        return self.run_features(images)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        module = adapter.module
        adapter.__class__ = Careless
        adapter.run_features = lambda images: tap_features(module, adapter.taps, images)
        return adapter, report


plugin = Broken()
