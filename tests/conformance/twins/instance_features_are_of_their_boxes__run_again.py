"""The neck is run again although its maps are given."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torchvision.ops import roi_align

from tlvision.plugin import InstanceFeatures
from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Pools(DetectorAdapter):
    pyramid_path = "neck"

    def instance_features(self, images, boxes=None, *, most=None, pyramid=None):
        if True:
            pyramid = self._neck(images)
        if boxes is None:
            boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(most or 5, 1) for _ in images]
        found = []
        for number, own in enumerate(boxes):
            pooled = roi_align(pyramid[0][number : number + 1], [own], 1, 1 / 8).flatten(1)
            found.append(InstanceFeatures(boxes=own, features=pooled))
        return found

    def _neck(self, images):
        stages = self.module.backbone(images)
        return self.module.neck(dict(zip(("stage1", "stage2", "stage3", "stage4"), stages, strict=True)))


@dataclass(frozen=True)
class Broken(ToyPlugin):
    capabilities: dict = field(
        default_factory=lambda: {"Exportable": "yes", "HasInstanceFeatures": "yes", "HasScoreGradients": "yes"}
    )

    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Pools
        return adapter, report


plugin = Broken()
