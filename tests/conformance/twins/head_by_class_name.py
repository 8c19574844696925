"""The rows of the head are loaded by position where their number is the same."""

from __future__ import annotations

from tlvision.plugin.weights.files import read_tensors
from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if spec.weights != "none":
            state, tensors = adapter.module.state_dict(), read_tensors(spec.weights).tensors
            for key in adapter.class_keys:
                if state[key].shape == tensors[key].shape:
                    state[key].copy_(tensors[key])
        return adapter, report


plugin = Broken()
