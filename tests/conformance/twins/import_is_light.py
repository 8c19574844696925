"""Torch is imported at the top."""

from __future__ import annotations

import torch

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        assert torch.is_tensor(torch.zeros(1))
        return super().build(spec)


plugin = Broken()
