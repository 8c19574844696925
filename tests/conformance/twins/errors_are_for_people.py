"""An unknown architecture ends in a KeyError."""

from __future__ import annotations

from tlvision_toy.plugin import ARCHITECTURES, ToyPlugin


class Broken(ToyPlugin):
    def task_of(self, arch):
        return ARCHITECTURES[arch]


plugin = Broken()
