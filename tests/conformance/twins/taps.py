"""A tap declares the stride of the next level."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class WrongStride(DetectorAdapter):
    @property
    def taps(self):
        *rest, last = super().taps
        return (*rest, replace(last, stride=64))


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = WrongStride
        return adapter, report


plugin = Broken()
