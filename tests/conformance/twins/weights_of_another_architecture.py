"""It takes from a file what fits, be that nothing."""

from __future__ import annotations

from dataclasses import replace

from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.head_rows import load_by_class_name
from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(replace(spec, weights="none"))
        if spec.weights != "none":
            file = read_tensors(spec.weights)
            report = load_by_class_name(adapter.module, file, spec.classes.names, adapter.class_keys)
        return adapter, report


plugin = Broken()
