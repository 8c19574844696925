"""loss() goes round the forward hooks of the backbone's stages."""

from __future__ import annotations

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.backbone import STAGES
from tlvision_toy.plugin import ToyPlugin


class Bypassing(DetectorAdapter):
    def loss(self, images, targets):
        backbone = self.module.backbone

        def direct(images):
            x, outputs = backbone.stem(images), []
            for name in STAGES:
                x = backbone.get_submodule(name).forward(x)
                outputs.append(x)
            return outputs

        backbone.forward = direct
        try:
            return super().loss(images, targets)
        finally:
            del backbone.forward


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Bypassing
        return adapter, report


plugin = Broken()
