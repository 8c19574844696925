"""The entry point `torchvision` of the group `tlvision.plugins`. Importing it imports neither torch nor torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision_torchvision.architectures import ARCHITECTURES, find_architecture
from tlvision_torchvision.segmentation.architectures import SEGMENTERS

if TYPE_CHECKING:
    from tlvision.plugin import Adapter, BuildSpec, WeightReport
    from tlvision_torchvision.options import TorchvisionOptions


class TorchvisionPlugin:
    """Faster R-CNN, Mask R-CNN, RetinaNet and FCOS on any of torchvision's backbones, SSDlite, and its segmenters.

    >>> plugin.task_of("maskrcnn_resnet18_fpn")
    'instance'
    >>> plugin.task_of("deeplabv3_resnet50")
    'semantic'
    """

    name = "torchvision"
    tasks: tuple[str, ...] = ("detect", "instance", "semantic")
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
        return (*ARCHITECTURES, *SEGMENTERS)

    def task_of(self, arch: str) -> str:
        """Return "detect", "instance" or "semantic"; InputError with the nearest name if `arch` is unknown."""
        return "semantic" if arch in SEGMENTERS else find_architecture(arch).task

    def options_type(self) -> type[TorchvisionOptions]:
        """Return the type of `model.options`: class weights, and parameters of the focal loss."""
        from tlvision_torchvision.options import TorchvisionOptions

        return TorchvisionOptions

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with a head for `spec.classes` and load its weights.

        spec.weights: "coco" (torchvision's model, where there is one), "imagenet" (torchvision's classifier, for
                      the backbone; both from torch's hub cache, or downloaded into it), "none", or the path of a
                      model's state dict, of a classifier's, or of our own `model.safetensors`.
        spec.options: `TorchvisionOptions`, or None for the defaults.

        Norms of a detector's backbone are FrozenBatchNorm2d where the model is pretrained and BatchNorm2d where it is
        not, as upstream has it; those of `…_v2` and of SSDlite are always trained. A file of a detector brings its own
        kind. Norms of segmenters are trained.

        Raises InputError if the architecture is unknown or the weights are not offered, cannot be had, cannot be
        read, or belong to another architecture, if class weights name no class, or if a model has no such option.
        """
        if spec.arch in SEGMENTERS:
            from tlvision_torchvision.segmentation.build import build_segmenter

            return build_segmenter(SEGMENTERS[spec.arch], spec)
        arch = find_architecture(spec.arch)
        from tlvision_torchvision.build import build_adapter

        return build_adapter(arch, spec)


plugin = TorchvisionPlugin()
