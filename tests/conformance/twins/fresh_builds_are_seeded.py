"""A part of the model is drawn from a generator that nobody can seed."""

from __future__ import annotations

import torch

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if spec.weights == "none":
            generator = torch.Generator()
            generator.seed()
            with torch.no_grad():
                adapter.module.head.scales += 0.01 * torch.randn(3, generator=generator)
        return adapter, report


plugin = Broken()
