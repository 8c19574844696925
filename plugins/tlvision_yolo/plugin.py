"""The entry point `yolo` of the group `tlvision.plugins`. Importing it imports neither torch nor ultralytics."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING

from tlvision.plugin.foreign import is_instance_of
from tlvision.types import InputError
from tlvision_yolo.architectures import ARCHITECTURES, find_architecture

if TYPE_CHECKING:
    from torch import nn

    from tlvision.plugin import Adapter, BuildSpec, WeightReport
    from tlvision_yolo.options import YoloOptions


class YoloPlugin:
    """YOLO of ultralytics: detectors (v5, anchor-free, v8, v9, v10, 11, 12, 26), instance segmenters (v8, 11, 26).

    >>> plugin.task_of("yolov8n"), plugin.task_of("yolov8n-seg")
    ('detect', 'instance')
    """

    name = "yolo"
    tasks: tuple[str, ...] = ("detect", "instance")
    upstream = "ultralytics"
    upstream_versions = ">=8.4,<9"
    licence = "AGPL-3.0 (ultralytics)"
    capabilities: Mapping[str, str] = MappingProxyType(
        {"Exportable": "yes", "HasScoreGradients": "yes", "HasTrainingProgress": "yes"}
    )

    def architectures(self) -> tuple[str, ...]:
        """Return the names that `BuildSpec.arch` may have; "yolov5n" and "yolov5nu" are the same model."""
        return tuple(ARCHITECTURES)

    def task_of(self, arch: str) -> str:
        """Return "detect" or, for "…-seg", "instance"; InputError with the nearest name where `arch` is unknown."""
        return find_architecture(arch).task

    def options_type(self) -> type[YoloOptions]:
        """Return the type of `model.options`: class weights."""
        from tlvision_yolo.options import YoloOptions

        return YoloOptions

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model with a head for `spec.classes` and load its weights.

        spec.weights: "coco" (ultralytics' own file, downloaded where it is in neither the current folder nor
                      ultralytics' weights folder), "none", or the path of a `.pt` of ultralytics, of a state dict that
                      torch.save wrote, or of our own `model.safetensors`. A pickle is read, never run.

        spec.options: `YoloOptions`, or None for the defaults.

        Raises InputError if the architecture is unknown, ultralytics is not installed, class weights name no class, or
        the weights are not offered, cannot be had, cannot be read, or belong to another architecture.
        """
        arch = find_architecture(spec.arch)
        if find_spec("ultralytics") is None:
            raise InputError(
                "model.plugin: 'yolo' stands on ultralytics, which is not installed; its licence is AGPL-3.0, and if "
                f"that suits you: pip install 'ultralytics{self.upstream_versions}'"
            )
        from tlvision_yolo.build import build_adapter

        return build_adapter(arch, spec)

    def describe(self, module: nn.Module) -> Adapter | None:
        """Return groups, taps and features of a DetectionModel or SegmentationModel; None for anything else."""
        if not is_instance_of(module, "ultralytics.nn.tasks", ("DetectionModel", "SegmentationModel")):
            return None
        from tlvision.plugin import PredictSpec
        from tlvision_yolo.adapter import YoloAdapter
        from tlvision_yolo.segment import YoloSegmentAdapter

        masks = is_instance_of(module, "ultralytics.nn.tasks", ("SegmentationModel",))
        return (YoloSegmentAdapter if masks else YoloAdapter)(module, PredictSpec())


plugin = YoloPlugin()
