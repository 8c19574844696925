"""The entry point `smp` of the group `tlvision.plugins`. Importing it imports neither torch nor smp."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision_smp.architectures import find_architecture, listed

if TYPE_CHECKING:
    from tlvision.plugin import Adapter, BuildSpec, WeightReport
    from tlvision_smp.options import SmpOptions


class SmpPlugin:
    """Twelve decoders of segmentation-models-pytorch on its own encoders and on timm's.

    >>> plugin.task_of("unet/mobilenet_v2")
    'semantic'
    """

    name = "smp"
    tasks: tuple[str, ...] = ("semantic",)
    upstream = "segmentation_models_pytorch"
    upstream_versions = ">=0.6,<1"
    licence = "MIT"
    capabilities: Mapping[str, str] = MappingProxyType(
        {
            "Exportable": "yes",
            "HasInstanceFeatures": "impossible: a segmenter finds no objects",
            "HasScoreGradients": "impossible: a segmenter finds no objects",
            "HasTrainingProgress": "impossible: the losses are the same in every epoch",
        }
    )

    def architectures(self) -> tuple[str, ...]:
        """Return '<decoder>/<encoder>' for smp's own encoders; '<decoder>/tu-<timm's name>' works as well."""
        return listed()

    def task_of(self, arch: str) -> str:
        """Return "semantic"; InputError with the nearest name where `arch` is unknown, or why it cannot be."""
        find_architecture(arch)
        return "semantic"

    def options_type(self) -> type[SmpOptions]:
        """Return the type of `model.options`: losses, label smoothing, class weights."""
        from tlvision_smp.options import SmpOptions

        return SmpOptions

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with a head for `spec.classes` and load its weights.

        spec.weights: "imagenet" (what smp or timm offers for the encoder, from the cache of huggingface_hub or
                      downloaded into it), "none", or the path of our own `model.safetensors`, of a whole smp state
                      dict, or of the encoder's or its classifier's with torchvision's or timm's key names.
        spec.options: `SmpOptions`, or None for the defaults.

        Raises InputError if the architecture is unknown or cannot be, smp is not installed, the weights are not
        offered, cannot be had, cannot be read or belong to another architecture, or class weights name no class.
        """
        arch = find_architecture(spec.arch)
        from tlvision_smp.architectures import import_upstream

        import_upstream("segmentation_models_pytorch")
        from tlvision_smp.build import build_adapter

        return build_adapter(arch, spec)


plugin = SmpPlugin()
