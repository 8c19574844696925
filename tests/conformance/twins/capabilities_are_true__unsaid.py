"""The adapter has a capability that the plugin calls impossible."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Progressing(DetectorAdapter):
    def set_progress(self, fraction):
        pass


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Progressing
        return adapter, report


plugin = Broken()
