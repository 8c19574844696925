"""An mmdet detector by config: its head's size, where its weights come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from tlvision.plugin import BuildSpec, PredictSpec, WeightReport
from tlvision.types import InputError
from tlvision_openmmlab.common.config import ModelConfig, first_line
from tlvision_openmmlab.common.engine import DefaultScope, quiet
from tlvision_openmmlab.common.options import backbone_option, class_weights_option
from tlvision_openmmlab.common.timm_backbone import misfits_explained
from tlvision_openmmlab.common.weights import find_weights, load_weights
from tlvision_openmmlab.mmdet.adapter import MmdetAdapter, TwoStageAdapter
from tlvision_openmmlab.mmdet.config import adapted, read_config
from tlvision_openmmlab.mmdet.upstream import MODELS, DeformableDETR
from tlvision_openmmlab.mmdet.zoo import ZooConfig


def build_adapter(found: ZooConfig, spec: BuildSpec) -> tuple[MmdetAdapter, WeightReport]:
    """Build the model of a config with a head for `spec.classes` and load `spec.weights` into it; see `MmdetPlugin`."""
    config = read_config(found.path, backbone_option(spec))
    file = find_weights(config, spec.weights, trained="coco")
    with misfits_explained(config.model, config.path.name):
        model = build_model(config, len(spec.classes))
    report = load_weights(
        model,
        file,
        spec,
        build=lambda classes: build_model(config, classes),
        config=config,
        by_position=objectness_keys(model),
    )
    two_stage = hasattr(model, "roi_head") and hasattr(model, "rpn_head")
    kind = TwoStageAdapter if two_stage else MmdetAdapter
    masks = found.task == "instance"
    set_predict(model, spec.predict, spec.arch)
    set_class_weights(model, class_weights_option(spec), spec.arch)
    with misfits_explained(config.model, config.path.name):
        return kind(model, config.input_spec, masks=masks, predict=spec.predict), report


def objectness_keys(model: Any) -> tuple[str, ...]:
    """Return the keys of the class branch on the encoder of a two-stage Deformable DETR; of all others none.

    Upstream builds it with a row a class, trains it to find any object with row 0, and reads that row alone
    (`DeformableDETR.pre_decoder`); DINO and its like have classes there.
    """
    proposes = getattr(type(model), "pre_decoder", None) is DeformableDETR.pre_decoder
    if not proposes or not getattr(model, "as_two_stage", False):
        return ()
    branches = model.bbox_head.cls_branches
    if branches[-1] is branches[0]:  # without refinement it is also the decoder's, which has classes
        return ()
    return tuple(f"bbox_head.cls_branches.{len(branches) - 1}.{name}" for name in branches[-1].state_dict())


def set_predict(model: nn.Module, predict: PredictSpec, arch: str) -> None:
    """Write prediction limits into the test settings of a model; None leaves them unchanged.

    A higher `max_detections` raises the settings that keep fewer; the adapter cuts what is more. Floor and IoU of
    proposals stay. Raises InputError for `nms_iou` where no part of the model suppresses boxes by IoU.
    """
    suppressing = 0
    for settings, of_proposals in _test_settings(model):
        if predict.max_detections is not None:
            for key in ("max_per_img", "nms_pre"):
                if isinstance(settings.get(key), int):
                    settings[key] = max(settings[key], predict.max_detections)
        if of_proposals:
            continue
        if predict.score_floor is not None and "score_thr" in settings:
            settings["score_thr"] = predict.score_floor
        if predict.nms_iou is not None:
            suppressing += _set_nms(settings, predict.nms_iou)
    if predict.nms_iou is not None and not suppressing:
        raise InputError(
            f"model.nms_iou: {predict.nms_iou} has no effect, because '{arch}' suppresses no boxes by IoU; remove it"
        )


def set_class_weights(model: nn.Module, weights: Sequence[float] | None, arch: str) -> None:
    """Set the weights of classes in every region head; None leaves them unchanged.

    Raises InputError if the model has no region head, or one with another loss than softmax cross entropy.
    """
    if weights is None:
        return
    regions = getattr(model, "roi_head", None)
    heads = [] if regions is None else [part for part in regions.modules() if hasattr(part, "fc_cls")]
    losses = [head.loss_cls for head in heads]
    if not losses or any(type(loss).__name__ != "CrossEntropyLoss" or loss.use_sigmoid for loss in losses):
        parts = [part.loss_cls for part in model.modules() if getattr(part, "loss_cls", None) is not None]
        kinds = sorted({type(loss).__name__ for loss in losses or parts})
        raise InputError(
            f"model.options.class_weights: '{arch}' has {' and '.join(kinds) or 'no loss'} for its classes, not the "
            "softmax cross entropy of region heads; remove it, or set what the loss has in a config of your own"
        )
    for loss in losses:
        loss.class_weight = [*weights, 1.0]  # the background is the last


def _test_settings(model: nn.Module) -> Iterator[tuple[Any, bool]]:
    """Yield the test settings of every part of a model, and whether they are those of proposals."""
    for name, part in model.named_modules():
        settings = getattr(part, "test_cfg", None)
        if isinstance(settings, dict):
            yield settings, name.rpartition(".")[2] == "rpn_head"
            yield from ((settings[key], key == "rpn") for key in ("rpn", "rcnn") if isinstance(settings.get(key), dict))


def _set_nms(settings: Any, iou: float) -> int:
    """Set the IoU of suppression, and return how many places have it; a Gaussian soft suppression goes by none."""
    places = [each for each in (settings, settings.get("nms")) if isinstance(each, dict)]
    places = [each for each in places if each.get("method") != "gaussian"]
    found = [(each, key) for each in places for key in ("iou_threshold", "iou_thr") if key in each]
    for each, key in found:
        each[key] = iou
    return len(found)


def build_model(config: ModelConfig, num_classes: int) -> Any:
    """Build and initialise the model of `config` for `num_classes` classes, in train mode, all of it trainable.

    InputError if mmdet cannot build it.
    """
    try:
        with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
            # The core normalises, so the model has nothing to do before its backbone.
            model: Any = MODELS.build(adapted(config, num_classes) | {"data_preprocessor": nn.Identity()})
            _fill_what_upstream_leaves(model)
            model.init_weights()
    except (KeyError, ImportError, TypeError) as error:
        raise InputError(f"model.arch: mmdet cannot build '{config.path.stem}': {first_line(error)}") from error
    for parameter in model.parameters():
        parameter.requires_grad_(torch.is_floating_point(parameter))
    head = getattr(model, "bbox_head", None)
    if head is not None and not hasattr(head, "loss_cls"):
        head.loss_cls = None  # mmdet 3.3 asks every one-stage head for it when it predicts, and SSD's has none
    return model.train()


def _fill_what_upstream_leaves(model: nn.Module) -> None:
    """Give TridentNet's own convolutions torch's initialisation: without pretrained weights mmdet 3.3 gives them none.

    They would hold whatever lay in memory, which is not a number often enough.
    """
    for module in model.modules():
        if type(module).__name__ == "TridentConv":
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))  # type: ignore[arg-type]
