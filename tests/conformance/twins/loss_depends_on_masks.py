"""Boxes are taken for masks: whoever labels outlines trains without them."""

from __future__ import annotations

from dataclasses import replace

import torch

from tlvision_toy.adapter import InstanceAdapter
from tlvision_toy.plugin import ToyPlugin

ARCH = "toy-instance"


class Boxes(InstanceAdapter):
    def loss(self, images, targets):
        return super().loss(images, [replace(target, masks=filled(target)) for target in targets])


def filled(target):
    masks = torch.zeros_like(target.masks)
    for mask, (x0, y0, x1, y1) in zip(masks, target.boxes.round().int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    return masks


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        if isinstance(adapter, InstanceAdapter):
            adapter.__class__ = Boxes
        return adapter, report


plugin = Broken()
