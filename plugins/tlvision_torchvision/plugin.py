"""The entry point `torchvision` of the group `tlvision.plugins`. Importing it imports neither torch nor torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision_torchvision.architectures import ARCHITECTURES, find_architecture

if TYPE_CHECKING:
    from tlvision.plugin import Adapter, BuildSpec, WeightReport


class TorchvisionPlugin:
    """Faster R-CNN, Mask R-CNN, RetinaNet and FCOS on any of torchvision's backbones, and SSDlite.

    >>> plugin.task_of("maskrcnn_resnet18_fpn")
    'instance'
    """

    name = "torchvision"
    tasks: tuple[str, ...] = ("detect", "instance")
    upstream = "torchvision"
    upstream_versions = ">=0.20,<1"
    licence = "BSD-3-Clause"
    capabilities: Mapping[str, str] = MappingProxyType(
        {
            "Exportable": "yes",
            "HasInstanceFeatures": "yes",
            "HasScoreGradients": "yes",
            "HasTrainingProgress": "impossible: the losses are the same in every epoch",
        }
    )

    def architectures(self) -> tuple[str, ...]:
        """Return the names that `BuildSpec.arch` may have: torchvision's own, and `<detector>_<backbone>_fpn`."""
        return tuple(ARCHITECTURES)

    def task_of(self, arch: str) -> str:
        """Return "detect" or, for Mask R-CNN, "instance"; InputError with the nearest name if it is unknown."""
        return find_architecture(arch).task

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with a head for `spec.classes` and load its weights.

        spec.weights: "coco" (torchvision's detector, where there is one), "imagenet" (torchvision's classifier, for
                      the backbone; both from torch's hub cache, or downloaded into it), "none", or the path of a
                      detector's state dict, of a classifier's, or of our own `model.safetensors`.

        Norms of the backbone are FrozenBatchNorm2d where the model is pretrained and BatchNorm2d where it is not, as
        upstream has it; those of `…_v2` and of SSDlite are always trained. A file of a detector brings its own kind.

        Raises InputError if the architecture is unknown or the weights are not offered, cannot be had, cannot be
        read, or belong to another architecture.
        """
        arch = find_architecture(spec.arch)
        from tlvision_torchvision.build import build_adapter

        return build_adapter(arch, spec)


plugin = TorchvisionPlugin()
