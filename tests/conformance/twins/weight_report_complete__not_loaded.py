"""The report calls a key loaded that is not."""

from __future__ import annotations

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.module.backbone.stem[1].num_batches_tracked.zero_()
        return adapter, report


plugin = Broken()
