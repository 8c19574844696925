"""Gives as many objects as it always does, however few were asked for."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        return super().build(replace(spec, predict=replace(spec.predict, max_detections=None)))


plugin = Broken()
