"""The entry point `transformers` of the group `tlvision.plugins`. Importing it imports neither torch nor upstream."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision.plugin.foreign import is_instance_of
from tlvision_transformers.zoo import ARCHITECTURES, check_installed, find_architecture

if TYPE_CHECKING:
    from torch import nn

    from tlvision.plugin import Adapter, BuildSpec, WeightReport

_HEADS = ("ForObjectDetection", "ForSemanticSegmentation", "ForUniversalSegmentation", "ForInstanceSegmentation")
"""How the names of upstream's classes end whose models have groups here."""


class TransformersPlugin:
    """Detectors of the DETR kind, YOLOS, SegFormer, UperNet, DPT and mask transformers of Hugging Face transformers.

    >>> plugin.task_of("rtdetr_v2_r18"), plugin.task_of("segformer_b0")
    ('detect', 'semantic')
    """

    name = "transformers"
    tasks: tuple[str, ...] = ("detect", "semantic", "instance")
    upstream = "transformers"
    upstream_versions = ">=5.24,<6"
    licence = "Apache-2.0"
    capabilities: Mapping[str, str] = MappingProxyType(
        {
            "Exportable": "yes",
            "HasInstanceFeatures": "impossible: no model pools features for boxes",
            "HasScoreGradients": "yes",
            "HasTrainingProgress": "impossible: the losses are the same in every epoch",
        }
    )

    def architectures(self) -> tuple[str, ...]:
        """Return the names that have a configuration here; the path of a `config.json` or its folder is a name too."""
        return tuple(ARCHITECTURES)

    def task_of(self, arch: str) -> str:
        """Return "detect", "semantic" or "instance"; InputError with the nearest name if `arch` is unknown."""
        return find_architecture(arch).task

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with a head for `spec.classes` and load its weights.

        spec.arch:    a name of `architectures()`, the path of a `config.json` of transformers, or of a folder that
                      `save_pretrained` has written. A mask transformer is for the task "semantic", and for "instance"
                      where "#instance" follows the path.
        spec.weights: "coco" or "pretrained" (what upstream publishes for the name), "imagenet" (SegFormer's encoder),
                      all through `from_pretrained`, so from its cache or downloaded into it; "none"; a folder that
                      `save_pretrained` has written; or the path of a `model.safetensors`, upstream's or our own.

        Raises InputError if the architecture is unknown, transformers is not installed or cannot build the model, or
        the weights are not offered, cannot be had, cannot be read, or belong to another architecture.
        """
        arch = find_architecture(spec.arch)
        check_installed()
        from tlvision_transformers.build import build_adapter

        return build_adapter(arch, spec)

    def describe(self, module: nn.Module) -> Adapter | None:
        """Return groups, taps and features of a detector or segmenter of the kinds above; None for anything else."""
        kind, name = getattr(getattr(module, "config", None), "model_type", None), type(module).__name__
        if not is_instance_of(module, "transformers", (name,)) or not name.endswith(_HEADS):
            return None
        from tlvision.plugin import InputSpec
        from tlvision_transformers.groups import knows
        from tlvision_transformers.segmenter import SegmenterAdapter

        return SegmenterAdapter(module, InputSpec()) if knows(kind) else None


plugin = TransformersPlugin()
