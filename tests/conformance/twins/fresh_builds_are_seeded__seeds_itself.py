"""It sets the seed, so that every run of an experiment with several seeds is the same."""

from __future__ import annotations

import torch

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        torch.manual_seed(0)
        return super().build(spec)


plugin = Broken()
