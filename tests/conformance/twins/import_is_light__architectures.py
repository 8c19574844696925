"""Torch is imported to list the architectures."""

from __future__ import annotations

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def architectures(self):
        from tlvision_toy.detector import TinyDetector

        assert TinyDetector
        return super().architectures()


plugin = Broken()
