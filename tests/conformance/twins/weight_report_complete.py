"""The report forgets a key."""

from __future__ import annotations

from dataclasses import replace

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        return adapter, replace(report, loaded=report.loaded[1:])


plugin = Broken()
