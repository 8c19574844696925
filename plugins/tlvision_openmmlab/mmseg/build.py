"""An mmseg segmenter by config: its heads' size, where its weights come from."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import BuildSpec, WeightReport
from tlvision.types import InputError
from tlvision_openmmlab.common.config import ModelConfig, first_line
from tlvision_openmmlab.common.engine import DefaultScope, quiet
from tlvision_openmmlab.common.options import backbone_option, class_weights_option
from tlvision_openmmlab.common.timm_backbone import misfits_explained
from tlvision_openmmlab.common.weights import find_weights, load_weights
from tlvision_openmmlab.mmseg.adapter import MmsegAdapter
from tlvision_openmmlab.mmseg.config import adapted, edge_width, read_config
from tlvision_openmmlab.mmseg.upstream import MODELS


def build_adapter(path: Path, spec: BuildSpec) -> tuple[MmsegAdapter, WeightReport]:
    """Build the model of a config with heads for `spec.classes` and load `spec.weights` into it; see `MmsegPlugin`."""
    config = read_config(path, backbone_option(spec))
    if class_weights_option(spec) is not None:
        # Upstream looks up a weight for every pixel, also for 255, of which there is none.
        raise InputError(
            "model.options.class_weights: mmseg's cross entropy cannot have them where pixels are without a label; "
            "remove it, or take a segmenter of another plugin that has the option"
        )
    if spec.weights == "coco":
        raise InputError(
            "model.weights: mmseg's checkpoints are trained on what the name of the config says; give 'pretrained' for "
            "the one that the zoo lists, 'imagenet', 'none' or a path"
        )
    file = find_weights(config, spec.weights, trained="pretrained")
    with misfits_explained(config.model, config.path.name):
        model = build_model(config, len(spec.classes), spec.image_size)
    report = load_weights(
        model, file, spec, build=lambda classes: build_model(config, classes, spec.image_size), config=config
    )
    with misfits_explained(config.model, config.path.name):
        return MmsegAdapter(model, config.input_spec, edge_width=edge_width(config)), report


def build_model(config: ModelConfig, num_classes: int, image_size: int) -> Any:
    """Build and initialise the model of `config` for `num_classes` classes, in train mode, all of it trainable.

    image_size: long side of the input in pixels, for backbones that fix it. InputError if mmseg cannot build it.
    """
    try:
        # Some backbones print what they initialise.
        with quiet(), redirect_stdout(StringIO()), DefaultScope.overwrite_default_scope("mmseg"):
            # The core normalises, so the model has nothing to do before its backbone.
            model: Any = MODELS.build(adapted(config, num_classes, image_size) | {"data_preprocessor": nn.Identity()})
            model.init_weights()
    except (KeyError, ImportError, TypeError) as error:
        raise InputError(f"model.arch: mmseg cannot build '{config.path.stem}': {first_line(error)}") from error
    for parameter in model.parameters():
        parameter.requires_grad_(torch.is_floating_point(parameter))
    for module in model.modules():
        if type(module).__name__ == "OhemCrossEntropy":
            module.register_forward_hook(_zero_where_nothing_is_hard)
    return model.train()


def _zero_where_nothing_is_hard(module: nn.Module, inputs: tuple[Any, ...], loss: Tensor) -> Tensor:
    """Return the loss, or 0 if upstream takes the mean over no pixel, because all are as sure as each other."""
    return torch.where(loss.isnan(), 0 * inputs[0].sum(), loss)  # scores that are NaN themselves stay so
