"""The last group does not say that it is the head."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Headless(DetectorAdapter):
    @property
    def groups(self):
        *rest, head = super().groups
        return (*rest, replace(head, role="neck"))


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Headless
        return adapter, report


plugin = Broken()
