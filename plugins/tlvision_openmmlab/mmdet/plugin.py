"""The entry point `mmdet` of the group `tlvision.plugins`. Importing it imports neither torch nor mmdet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision.plugin.foreign import is_instance_of
from tlvision_openmmlab.mmdet.zoo import check_mmdet, find_config, zoo

if TYPE_CHECKING:
    from torch import nn

    from tlvision.plugin import Adapter, BuildSpec, WeightReport
    from tlvision_openmmlab.common.options import OpenmmlabOptions


class MmdetPlugin:
    """Any detector of mmdet 3.x, by the name of its config in mmdet's model zoo or by the path of a config.

    >>> plugin.task_of("mask-rcnn_r50_fpn_1x_coco")
    'instance'
    """

    name = "mmdet"
    tasks: tuple[str, ...] = ("detect", "instance")
    upstream = "mmdet"
    upstream_versions = ">=3.3,<4"
    licence = "Apache-2.0 (mmdet, mmengine, mmcv)"
    capabilities: Mapping[str, str] = MappingProxyType(
        {
            "Exportable": "yes",
            "HasInstanceFeatures": "yes",
            "HasScoreGradients": "yes",
            "HasTrainingProgress": "not written",
        }
    )

    def architectures(self) -> tuple[str, ...]:
        """Return the names of the zoo's detectors; the path of a config is a name too. Empty without mmdet."""
        return tuple(zoo())

    def task_of(self, arch: str) -> str:
        """Return "instance" where the model finds masks, else "detect"; InputError if `arch` is unknown."""
        return find_config(arch).task

    def options_type(self) -> type[OpenmmlabOptions]:
        """Return the type of `model.options`: a backbone of timm in the place of the config's, and class weights."""
        from tlvision_openmmlab.common.options import OpenmmlabOptions

        return OpenmmlabOptions

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with a head for `spec.classes` and load its weights.

        spec.arch:    "faster-rcnn_r50_fpn_1x_coco", or the path of a config.
        spec.weights: "coco" (the checkpoint of the model zoo), "imagenet" (what the config starts its backbone from),
                      "none", or the path of a checkpoint of mmdet, of a backbone's state dict, or of our own
                      `model.safetensors`. A pickle is read, never run.
        spec.options: `OpenmmlabOptions`, or None for the defaults.

        Raises InputError if the config is unknown, mmdet is not installed or cannot build the model, or the weights
        cannot be had, cannot be read, or belong to another architecture.
        """
        found = find_config(spec.arch)
        check_mmdet()
        from tlvision_openmmlab.mmdet.build import build_adapter

        return build_adapter(found, spec)

    def describe(self, module: nn.Module) -> Adapter | None:
        """Return groups, taps and features of a detector of mmdet; None for anything else."""
        if not is_instance_of(module, "mmdet", ("BaseDetector",)):
            return None
        from tlvision.plugin import InputSpec, PredictSpec
        from tlvision_openmmlab.mmdet.adapter import MmdetAdapter

        return MmdetAdapter(module, InputSpec(), masks=False, predict=PredictSpec())


plugin = MmdetPlugin()
