"""The balance of the losses creeps on when the same progress is told again."""

from __future__ import annotations

from dataclasses import dataclass, field

from tlvision_toy.adapter import DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


class Creeping(DetectorAdapter):
    told, again = None, 0

    def set_progress(self, fraction):
        self.again += fraction == self.told
        self.told = fraction

    def loss(self, images, targets):
        losses = super().loss(images, targets)
        return {**losses, "loss_box": losses["loss_box"] * (1 + 0.01 * self.again)}


@dataclass(frozen=True)
class Broken(ToyPlugin):
    capabilities: dict = field(
        default_factory=lambda: {"Exportable": "yes", "HasScoreGradients": "yes", "HasTrainingProgress": "yes"}
    )

    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Creeping
        return adapter, report


plugin = Broken()
