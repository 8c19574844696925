"""Gives objects of every score, however high the floor is."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        return super().build(replace(spec, predict=replace(spec.predict, score_floor=None)))


plugin = Broken()
