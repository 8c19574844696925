"""From an mmdet config to one that builds a bare model for given classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.plugin.protocol import DEFAULT_SCORE_FLOOR
from tlvision.types import InputError
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
from tlvision_openmmlab.mmdet.upstream import DATASETS


def read_config(path: Path, backbone: str | None = None) -> ModelConfig:
    """Read an mmdet 3.x config; InputError if it cannot be read or describes no detector.

    backbone: a model of timm ("timm/<name>") in the place of the config's backbone; None keeps that.
    """
    config = load_config(path)
    model = config["model"]
    with_timm(config, backbone, path.name)
    stretched = any(
        step.get("type") == "Resize" and step.get("keep_ratio") is False for step in config.get("test_pipeline") or ()
    )
    spec = input_spec(model.get("data_preprocessor") or {}, padding=_pad_colour(config), stretched=stretched)
    return ModelConfig(
        "mmdet",
        path,
        model,
        timm_input_spec(spec, backbone) if backbone else spec,
        dataset_classes(config, DATASETS),
        backbone_weights(model),
        config.get("load_from"),
    )


def adapted(config: ModelConfig, num_classes: int) -> ConfigDict:
    """Return the description of the same model for `num_classes` classes, with nothing loaded and nothing frozen.

    What upstream freezes when it builds (`frozen_stages`, `norm_eval`, norms without gradient) is the business of
    hooks here; semantic branches, which need a label map in addition to boxes, are removed. InputError if no part of
    the model counts classes.
    """
    model = copy.deepcopy(config.model)
    model.pop("data_preprocessor", None)
    _without_semantic_branch(model)
    counted: list[int] = []

    def adapt(part: dict[str, Any]) -> None:
        for key in ("num_classes", "num_things_classes"):
            if isinstance(part.get(key), int):
                counted.append(part[key])
                _resize(part, key, num_classes)
        if part.get("type") == "MMSyncBN":  # mmcv's own, from before torch had one
            part["type"] = "SyncBN"
        unfreeze(part)
        without_pretrained(part)

    walk(model, adapt)
    if not counted:
        raise InputError(f"model.arch: in '{config.path}' no head has 'num_classes'; give the config of a detector")
    walk(model.get("test_cfg") or {}, _keep_low_scores)
    return model


def _resize(part: dict[str, Any], key: str, num_classes: int) -> None:
    before, part[key] = part[key], num_classes
    loss = part.get("loss_cls")
    weights = loss.get("class_weight") if isinstance(loss, dict) else None
    if isinstance(weights, Sequence) and len(weights) == before + 1:
        loss["class_weight"] = [weights[0]] * num_classes + [weights[-1]]  # type: ignore[index]


def _without_semantic_branch(model: dict[str, Any]) -> None:
    roi_head = model.get("roi_head")
    if isinstance(roi_head, dict) and roi_head.get("semantic_head") is not None:
        roi_head["semantic_head"] = roi_head["semantic_roi_extractor"] = None


def _keep_low_scores(part: dict[str, Any]) -> None:
    if isinstance(part.get("score_thr"), float):
        part["score_thr"] = min(part["score_thr"], DEFAULT_SCORE_FLOOR)


def _pad_colour(config: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return the grey, or RGB, that the test pipeline pads with before normalisation; None: the mean, after it."""
    for step in config.get("test_pipeline") or ():
        value = step.get("pad_val") if step.get("type") == "Pad" else None
        colour = value.get("img") if isinstance(value, dict) else value
        if isinstance(colour, int | float):
            return float(colour), float(colour), float(colour)
        if colour is not None:
            return tuple(float(each) for each in colour[::-1])  # type: ignore[return-value]  # mmdet's are BGR
    return None
