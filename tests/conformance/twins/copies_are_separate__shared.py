"""A copy of the adapter shares the first one's module."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Careless(DetectorAdapter):
    def __deepcopy__(self, memo):
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Careless
        return adapter, report


plugin = Broken()
