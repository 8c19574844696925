"""The entry point `mmseg` of the group `tlvision.plugins`. Importing it imports neither torch nor mmseg."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision.plugin.foreign import is_instance_of
from tlvision_openmmlab.mmseg.zoo import check_mmseg, find_config, zoo

if TYPE_CHECKING:
    from torch import nn

    from tlvision.plugin import Adapter, BuildSpec, WeightReport
    from tlvision_openmmlab.common.options import OpenmmlabOptions


class MmsegPlugin:
    """Any semantic segmenter of mmseg 1.x, by the name of its config in mmseg's model zoo or by the path of a config.

    >>> plugin.task_of("fcn_r18-d8_4xb2-80k_cityscapes-512x1024")
    'semantic'
    """

    name = "mmseg"
    tasks: tuple[str, ...] = ("semantic",)
    upstream = "mmsegmentation"
    upstream_versions = ">=1.2,<2"
    licence = "Apache-2.0 (mmsegmentation, mmengine, mmcv)"
    capabilities: Mapping[str, str] = MappingProxyType(
        {
            "Exportable": "yes",
            "HasInstanceFeatures": "impossible: a segmenter knows no boxes",
            "HasScoreGradients": "impossible: a segmenter finds no objects",
            "HasTrainingProgress": "impossible: the losses are the same throughout a run",
        }
    )

    def architectures(self) -> tuple[str, ...]:
        """Return the names of the zoo's segmenters; the path of a config is a name too. Empty without mmseg."""
        return tuple(zoo())

    def task_of(self, arch: str) -> str:
        """Return "semantic"; InputError if `arch` is unknown."""
        find_config(arch)
        return "semantic"

    def options_type(self) -> type[OpenmmlabOptions]:
        """Return the type of `model.options`: a backbone of timm in the place of the config's."""
        from tlvision_openmmlab.common.options import OpenmmlabOptions

        return OpenmmlabOptions

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with heads for `spec.classes` and load its weights.

        spec.arch:    "fcn_r18-d8_4xb2-80k_cityscapes-512x1024", or the path of a config.
        spec.weights: "pretrained" (the trained checkpoint that the model zoo lists for the config, on Cityscapes,
                      ADE20K or whatever its name says), "imagenet" (what the config starts its backbone from), "none",
                      or the path of a checkpoint of mmseg, of a backbone's state dict, or of our own
                      `model.safetensors`. A pickle is read, never run.
        spec.options: `OpenmmlabOptions`, or None for the defaults.

        Raises InputError if the config is unknown, mmseg is not installed or cannot build the model, or the weights
        cannot be had, cannot be read, or belong to another architecture.
        """
        path = find_config(spec.arch)
        check_mmseg()
        from tlvision_openmmlab.mmseg.build import build_adapter

        return build_adapter(path, spec)

    def describe(self, module: nn.Module) -> Adapter | None:
        """Return groups, taps and features of a segmenter of mmseg; None for anything else."""
        if not is_instance_of(module, "mmseg", ("EncoderDecoder",)):
            return None
        from tlvision.plugin import InputSpec
        from tlvision_openmmlab.mmseg.adapter import MmsegAdapter

        return MmsegAdapter(module, InputSpec())


plugin = MmsegPlugin()
