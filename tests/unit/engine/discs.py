"""A plugin for tests: the toy detector, which says that every object is a disc. Run under torchrun, it trains.

What matters here is what the core does with masks, so that nothing but boxes need be learnt.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tlvision.plugin import BuildSpec, WeightReport, registry
from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.head_rows import load_by_class_name
from tlvision.types import Prediction, Target
from tlvision_toy.adapter import DetectorAdapter


class DiscAdapter(DetectorAdapter):
    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        for target in targets:
            assert target.masks is not None
            assert target.masks.dtype == torch.uint8
            assert target.masks.shape == (len(target), *images.shape[2:])
        return super().loss(images, targets)

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        height, width = images.shape[2:]
        y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
        found = []
        for whole in super().predict(images):
            boxes = whole.boxes[:100]
            x0, y0, x1, y1 = boxes.T[:, :, None, None]
            inside = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1
            masks = inside.to(torch.uint8)
            found.append(Prediction(boxes=boxes, scores=whole.scores[:100], labels=whole.labels[:100], masks=masks))
        return found


class DiscPlugin:
    name = "discs"
    tasks = ("instance",)
    upstream = upstream_versions = ""
    licence = "Apache-2.0"
    capabilities: Mapping[str, str] = {}
    value = "tests"

    def architectures(self) -> tuple[str, ...]:
        return ("disc_segmenter",)

    def task_of(self, arch: str) -> str:
        return "instance"

    def build(self, spec: BuildSpec) -> tuple[DiscAdapter, WeightReport]:
        adapter = DiscAdapter(len(spec.classes), spec.predict)
        if spec.weights == "none":
            return adapter, WeightReport(source="none", missing=tuple(adapter.module.state_dict()))
        tensors = read_tensors(spec.weights)
        return adapter, load_by_class_name(adapter.module, tensors, spec.classes.names, adapter.class_keys)

    def load(self) -> DiscPlugin:
        """Be an entry point as well."""
        return self


def entry_points() -> dict[str, Any]:
    return {**real_entry_points(), "discs": DiscPlugin()}


real_entry_points = registry._entry_points

if __name__ == "__main__":
    from tlvision.engine.train import train

    registry._entry_points = entry_points
    train(sys.argv[1])
