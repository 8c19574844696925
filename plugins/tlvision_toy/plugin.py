"""The plugin object behind the entry point; importing it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tlvision.plugin import Adapter, BuildSpec, WeightReport
from tlvision.types import InputError, nearest

ARCHITECTURES: dict[str, str] = {
    "tiny_detector": "detect",
    "tiny_segmenter": "semantic",
    "toy-instance": "instance",
}


@dataclass(frozen=True)
class ToyPlugin:
    """Three tiny models; implements `tlvision.plugin.Plugin`."""

    name: str = "toy"
    tasks: tuple[str, ...] = ("detect", "semantic", "instance")
    upstream: str = ""
    upstream_versions: str = ""
    licence: str = "Apache-2.0"
    capabilities: Mapping[str, str] = field(
        default_factory=lambda: {
            "Exportable": "yes",
            "HasScoreGradients": "yes",
            "HasTrainingProgress": "impossible: the losses are the same throughout a run",
        }
    )

    def architectures(self) -> tuple[str, ...]:
        """Return the names that `BuildSpec.arch` may have."""
        return tuple(ARCHITECTURES)

    def task_of(self, arch: str) -> str:
        """Return "detect", "semantic" or "instance"; InputError with the nearest name where `arch` is unknown."""
        if arch not in ARCHITECTURES:
            raise InputError(f"model.arch: toy has no architecture '{arch}'.{nearest(arch, ARCHITECTURES)}")
        return ARCHITECTURES[arch]

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model; `spec.weights` is "none" or the path of a checkpoint of the same architecture.

        Raises InputError for an unknown architecture, for weights that this plugin does not offer, and for a file
        that cannot be read or belongs to another architecture.
        """
        from tlvision_toy.adapter import build_adapter

        self.task_of(spec.arch)
        return build_adapter(spec)


plugin = ToyPlugin()
