"""From an mmseg config to one that builds a bare model for given classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlvision.types import IGNORE_INDEX, InputError
from tlvision_openmmlab.common.config import (
    ModelConfig,
    backbone_weights,
    dataset_classes,
    input_spec,
    load_config,
    unfreeze,
    walk,
    without_pretrained,
)
from tlvision_openmmlab.common.engine import ConfigDict
from tlvision_openmmlab.common.timm_backbone import timm_input_spec, with_timm
from tlvision_openmmlab.mmseg.upstream import DATASETS

# Backbones whose relative positions fit one size of input alone.
_ONE_SIZE = frozenset({"BEiT", "MAE"})
# Heads that tell edges from the rest, whatever the classes are.
_EDGE_HEADS = frozenset({"STDCHead"})
_SEGMENTERS = frozenset({"EncoderDecoder", "CascadeEncoderDecoder"})


def read_config(path: Path, backbone: str | None = None) -> ModelConfig:
    """Read an mmseg 1.x config; InputError if it cannot be read or describes no segmenter of images.

    backbone: a model of timm ("timm/<name>") in the place of the config's backbone; None keeps that.
    """
    config = load_config(path)
    model = config["model"]
    if model.get("type") not in _SEGMENTERS:
        raise InputError(
            f"model.arch: the model of '{path.name}' is of the type '{model.get('type')}', which is not supported; "
            f"give a config of {' or '.join(sorted(_SEGMENTERS))}"
        )
    with_timm(config, backbone, path.name)
    channels = model["backbone"].get("in_channels", 3)
    if channels != 3:
        raise InputError(
            f"model.arch: the model of '{path.name}' takes images of {channels} channels; expected 3, give another"
        )
    spec = input_spec(model.get("data_preprocessor") or {}, stretched=model["backbone"].get("type") in _ONE_SIZE)
    return ModelConfig(
        "mmseg",
        path,
        model,
        timm_input_spec(spec, backbone) if backbone else spec,
        dataset_classes(config, DATASETS),
        backbone_weights(model),
        config.get("load_from"),
    )


def edge_width(config: ModelConfig) -> int | None:
    """Return the width in pixels of the edges that the decode head also learns; None if it learns none.

    It is PIDNet's 4, which upstream writes into the pipeline of the data.
    """
    head = config.model["decode_head"]
    return 4 if isinstance(head, dict) and head.get("type") == "PIDHead" else None


def adapted(config: ModelConfig, num_classes: int, image_size: int) -> ConfigDict:
    """Return the description of the same model for `num_classes` classes, with nothing loaded and nothing frozen.

    Every class has a channel of its own, also where the config has one channel for two classes, and softmax. Weights of
    classes belong to the config's own dataset and are left out; what is ignored is 255; batch norm is that of the
    process, so that it runs on a CPU. image_size: long side of the input, for backbones that fix it. InputError if
    no head counts classes.
    """
    model = copy.deepcopy(config.model)
    model.pop("data_preprocessor", None)
    counted: list[int] = []

    def adapt(part: dict[str, Any]) -> None:
        if isinstance(part.get("num_classes"), int) and part.get("type") not in _EDGE_HEADS:
            counted.append(part["num_classes"])
            _set_classes(part, num_classes)
        if part.get("type") in ("SyncBN", "MMSyncBN"):
            part["type"] = "BN"
        for key in ("ignore_index", "ignore_label"):
            if isinstance(part.get(key), int):
                part[key] = IGNORE_INDEX
        unfreeze(part)
        without_pretrained(part)

    walk(model, adapt)
    if not counted:
        raise InputError(f"model.arch: in '{config.path}' no head has 'num_classes'; give the config of a segmenter")
    if model["backbone"].get("type") in _ONE_SIZE:
        model["backbone"]["img_size"] = (image_size, image_size)
    return model


def _set_classes(head: dict[str, Any], num_classes: int) -> None:
    """Give a head so many classes, each with a channel of its own."""
    before = head["num_classes"]
    head["num_classes"] = num_classes
    single = head.get("out_channels") == 1
    if single or ("loss_decode" in head and head.get("out_channels") == before):
        head.pop("out_channels")  # is the number of classes where it is not given
        head.pop("threshold", None)
    losses = head.get("loss_decode") or []
    for loss in losses if isinstance(losses, list | tuple) else [losses]:
        if single and loss.get("type") == "CrossEntropyLoss":
            loss["use_sigmoid"] = False
        loss.pop("class_weight", None)
    matching = head.get("loss_cls")
    weights = matching.get("class_weight") if isinstance(matching, Mapping) else None
    if isinstance(weights, list | tuple) and len(weights) == before + 1:  # of mask classifiers, whose last is "none"
        matching["class_weight"] = [weights[0]] * num_classes + [weights[-1]]  # type: ignore[index]
