"""Build a torchvision segmenter by name and load its weights."""

from __future__ import annotations

from typing import Any

from torchvision.models import get_model

from tlvision.plugin import BuildSpec, WeightReport
from tlvision.plugin.class_weights import weights_in_order
from tlvision.types import InputError
from tlvision_torchvision.options import TorchvisionOptions
from tlvision_torchvision.segmentation.adapter import SegmenterAdapter
from tlvision_torchvision.segmentation.architectures import Segmenter
from tlvision_torchvision.segmentation.weights import find_weights, load_weights


def build_segmenter(arch: Segmenter, spec: BuildSpec) -> tuple[SegmenterAdapter, WeightReport]:
    """Build `arch` with a head for `spec.classes` and load `spec.weights`; see `TorchvisionPlugin.build`."""
    options = spec.options if spec.options is not None else TorchvisionOptions()
    if not isinstance(options, TorchvisionOptions):
        raise InputError(
            f"model.options: plugin 'torchvision' expects TorchvisionOptions, got {type(options).__name__}"
        )
    if odd := [name for name in options.given() if name != "class_weights"]:
        raise InputError(f"model.options: '{arch.name}' is a segmenter and has no {' and no '.join(odd)}; remove it")
    class_weights = weights_in_order(options.class_weights, spec.classes.names)
    source = find_weights(arch, spec.weights)
    model = build_model(arch, len(spec.classes))
    adapter = SegmenterAdapter(model, arch.name, class_weights)
    if source is None:
        return adapter, WeightReport(source="none", missing=tuple(model.state_dict()))
    return adapter, load_weights(model, arch, source, spec.classes.names, given=spec.weights)


def build_model(arch: Segmenter, num_classes: int) -> Any:
    """Build torchvision's own model, freshly initialised and in train mode, with its auxiliary head if it has one."""
    auxiliary = {"aux_loss": True} if arch.has_auxiliary else {}
    return get_model(arch.name, weights=None, weights_backbone=None, num_classes=num_classes, **auxiliary)
