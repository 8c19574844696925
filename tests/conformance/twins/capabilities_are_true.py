"""It says that it can follow the progress of training, and no adapter can."""

from __future__ import annotations

from dataclasses import dataclass, field

from tlvision_toy.plugin import ToyPlugin


@dataclass(frozen=True)
class Broken(ToyPlugin):
    capabilities: dict = field(
        default_factory=lambda: {"Exportable": "yes", "HasScoreGradients": "yes", "HasTrainingProgress": "yes"}
    )


plugin = Broken()
