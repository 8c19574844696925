"""Build a model of transformers from its configuration, with a head for other classes, and load weights into it."""

from __future__ import annotations

from typing import Any

import torch

from tlvision.plugin import Adapter, BuildSpec, WeightReport
from tlvision.types import InputError
from tlvision_transformers.detector import DetectorAdapter
from tlvision_transformers.images import input_spec
from tlvision_transformers.instances import InstanceAdapter
from tlvision_transformers.masks import MaskTransformerAdapter
from tlvision_transformers.segmenter import SegmenterAdapter
from tlvision_transformers.upstream import CONFIG_MAPPING, auto_model, quiet
from tlvision_transformers.weights import find_weights, load_weights
from tlvision_transformers.zoo import MASK_TYPES, Architecture

_FIXED_SIZES = ("anchor_image_size", "eval_size")
"""Settings that compute positions for one size of image when the model is built; without them any size works."""


def build_adapter(arch: Architecture, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
    """Build `arch` with a head for `spec.classes` and load `spec.weights` into it; see `TransformersPlugin.build`."""
    if spec.predict.nms_iou is not None:
        raise InputError(
            f"model.nms_iou: {spec.predict.nms_iou} has no effect, because '{arch.name}' suppresses no boxes by IoU; "
            "remove it"
        )
    source = find_weights(arch, spec.weights)
    names = spec.classes.names
    model = build_model(arch, names)
    images = input_spec(arch, model.config)
    adapter: Adapter
    if arch.task == "detect":
        adapter = DetectorAdapter(model, images, spec.predict)
    elif arch.task == "instance":
        adapter = InstanceAdapter(model, images, spec.predict)
    elif arch.model_type in MASK_TYPES:
        adapter = MaskTransformerAdapter(model, images)
    else:
        adapter = SegmenterAdapter(model, images)
    if source is None:
        return adapter, WeightReport(source="none", missing=tuple(model.state_dict()))
    report = load_weights(model, arch, source, names, given=spec.weights, build=lambda more: build_model(arch, more))
    return adapter, report


def build_model(arch: Architecture, classes: tuple[str, ...]) -> Any:
    """Build and initialise the model of `arch` for classes of these names, in train mode, in float32.

    Raises InputError if upstream cannot build it.
    """
    try:
        with quiet():
            config = upstream_config(arch, classes)
            model = auto_model(arch.model_type).from_config(config, dtype=torch.float32)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ImportError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
        raise InputError(
            f"model.arch: transformers cannot build '{arch.name}' ({type(error).__name__}: {reason}). Give a config "
            "that it can build."
        ) from error
    for parameter in model.parameters():
        parameter.requires_grad_(torch.is_floating_point(parameter))
    return model.train()


def upstream_config(arch: Architecture, classes: tuple[str, ...]) -> Any:
    """Return upstream's configuration of `arch` for classes of these names, with nothing pretrained in it."""
    config = CONFIG_MAPPING[arch.model_type].from_dict(dict(arch.config))
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}
    for name in _FIXED_SIZES:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    if arch.model_type == "mask2former":
        config.use_auxiliary_loss = True  # upstream's forward pass fails without it
    elif arch.model_type == "maskformer" and config.use_auxiliary_loss:
        config.output_hidden_states = True  # and this one's with it alone
    backbone: Any = getattr(config, "backbone_config", None)
    if getattr(backbone, "use_pretrained_backbone", False):
        backbone.use_pretrained_backbone = False
    return config
