"""A parameter of the head is in no group."""

from __future__ import annotations

from tlvision.plugin import LayerGroup
from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Forgetful(DetectorAdapter):
    @property
    def groups(self):
        parts = ("shared", "class_tower", "box_tower", "classify", "locate")
        return (*super().groups[:-1], LayerGroup("head", "head", tuple(f"head.{part}" for part in parts)))


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Forgetful
        return adapter, report


plugin = Broken()
