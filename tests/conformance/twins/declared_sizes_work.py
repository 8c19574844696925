"""It says that multiples of 8 will do, but levels of the pyramid fit each other only at multiples of 32."""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional

from tlvision_toy.adapter import INPUT, DetectorAdapter
from tlvision_toy.detector import LEVELS, Pyramid
from tlvision_toy.plugin import ToyPlugin


class Doubling(Pyramid):
    def forward(self, stages):
        outputs, above = [], 0.0
        for level in reversed(LEVELS):
            here = self.lateral[level](stages[LEVELS[level]]) + above
            above = functional.interpolate(here, scale_factor=2.0, mode="nearest")
            outputs.append(self.smooth[level](here))
        return outputs[::-1]


class Optimist(DetectorAdapter):
    input_spec = replace(INPUT, multiple_of=8)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Optimist
        adapter.module.neck.__class__ = Doubling
        return adapter, report


plugin = Broken()
