"""loss() notes in the targets what it has assigned, and hooks find crowds that nobody has labelled."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Marking(DetectorAdapter):
    def loss(self, images, targets):
        for target in targets:
            target.crowd.fill_(True)
        return super().loss(images, targets)


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Marking
        return adapter, report


plugin = Broken()
