"""From an mmdet config to one that builds a bare model for given classes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tlvision.types import InputError, InputSpec
from tlvision_openmmlab.mmdet.upstream import DATASETS, Config, ConfigDict, quiet

# Low scores are kept, as COCO's evaluation wants.
_SCORE_THRESHOLD = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class ModelConfig:
    """What a config says of its model.

    path:       the file.
    model:      the description that mmdet builds the model from, as the file has it.
    input_spec: how images must arrive.
    classes:    names of the classes that the config's own dataset has; None where it is not known.
    backbone_weights: where the config takes its backbone's weights from ("torchvision://resnet50", a URL or a path),
                and the prefix of their keys; None where from nowhere.
    load_from:  checkpoint of the whole model that the config starts from; None where from none.
    """

    path: Path
    model: ConfigDict
    input_spec: InputSpec
    classes: tuple[str, ...] | None
    backbone_weights: tuple[str, str] | None
    load_from: str | None


def read_config(path: Path) -> ModelConfig:
    """Read an mmdet 3.x config; InputError where it cannot be read or describes no detector."""
    try:
        with quiet():
            config = Config.fromfile(path)
    except Exception as error:  # a config is a program; anything can come of running it
        if "mmpretrain" in str(error):
            raise InputError(
                f"model.arch: '{path.stem}' takes its backbone from mmpretrain, which cannot be imported "
                f"({error.__cause__ or error}); pip install mmpretrain"
            ) from error
        raise InputError(f"model.arch: the config '{path}' cannot be read: {_first_line(error)}") from error
    model = config.get("model")
    if not isinstance(model, dict) or "backbone" not in model:
        raise InputError(f"model.arch: the config '{path}' describes no model with a backbone; give a detector's")
    return ModelConfig(
        path,
        model,
        _input_spec(model.get("data_preprocessor") or {}, config),
        _dataset_classes(config),
        _backbone_weights(model),
        config.get("load_from"),
    )


def adapted(config: ModelConfig, num_classes: int) -> ConfigDict:
    """Return the description of the same model for `num_classes` classes, with nothing loaded and nothing frozen.

    What upstream freezes when it builds (`frozen_stages`, `norm_eval`, norms without gradient) is the business of
    hooks here; semantic branches, which want a label map beside the boxes, are left out. InputError where no part of
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
        if "frozen_stages" in part:
            # All backbones of mmdet call "none" -1 but this one.
            part["frozen_stages"] = 0 if part.get("type") == "EfficientNet" else -1
        if part.get("type") == "MMSyncBN":  # mmcv's own, from before torch had one
            part["type"] = "SyncBN"
        if part.get("norm_eval"):
            part["norm_eval"] = False
        if part.get("requires_grad") is False:
            part["requires_grad"] = True
        part.pop("pretrained", None)
        _without_pretrained(part)

    _walk(model, adapt)
    if not counted:
        raise InputError(f"model.arch: in '{config.path}' no head has 'num_classes'; give the config of a detector")
    _walk(model.get("test_cfg") or {}, _keep_low_scores)
    return model


def _walk(value: object, visit: Callable[[dict[str, Any]], None]) -> None:
    if isinstance(value, dict):
        visit(value)
        for below in list(value.values()):
            _walk(below, visit)
    elif isinstance(value, list | tuple):
        for below in value:
            _walk(below, visit)


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


def _without_pretrained(part: dict[str, Any]) -> None:
    init = part.get("init_cfg")
    entries = init if isinstance(init, list | tuple) else [init]
    kept = [entry for entry in entries if isinstance(entry, dict) and "checkpoint" not in entry]
    if init is not None and len(kept) < len(entries):
        part["init_cfg"] = kept or None


def _keep_low_scores(part: dict[str, Any]) -> None:
    if isinstance(part.get("score_thr"), float):
        part["score_thr"] = min(part["score_thr"], _SCORE_THRESHOLD)


def _backbone_weights(model: Mapping[str, Any]) -> tuple[str, str] | None:
    backbone = model["backbone"]
    init = backbone.get("init_cfg")
    entries = init if isinstance(init, list | tuple) else [init]
    for entry in entries:
        if isinstance(entry, dict) and "checkpoint" in entry:  # of the type Pretrained, or of a kind of its own
            return entry["checkpoint"], entry.get("prefix") or ""
    return (backbone["pretrained"], "") if backbone.get("pretrained") else None


def _input_spec(preprocessor: Mapping[str, Any], config: Mapping[str, Any]) -> InputSpec:
    """Turn mmdet's pre-processing of BGR images, 0..255, into ours."""
    swapped = bool(preprocessor.get("bgr_to_rgb"))
    mean = tuple(float(value) for value in preprocessor.get("mean") or (0.0, 0.0, 0.0))
    std = tuple(float(value) for value in preprocessor.get("std") or (1.0, 1.0, 1.0))
    order: Literal["rgb", "bgr"] = "rgb" if swapped else "bgr"
    padding = _pad_colour(config) or tuple(mean if order == "rgb" else mean[::-1])
    stretched = any(
        step.get("type") == "Resize" and step.get("keep_ratio") is False for step in config.get("test_pipeline") or ()
    )
    return InputSpec(
        resize="stretch" if stretched else "letterbox",
        place="corner",
        multiple_of=max(32, int(preprocessor.get("pad_size_divisor") or 1)),
        mean=mean,  # type: ignore[arg-type]
        std=std,  # type: ignore[arg-type]
        channel_order=order,
        value_range=255.0,
        pad_value=tuple(round(value) for value in padding),  # type: ignore[arg-type]
    )


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


def _dataset_classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    dataset = (config.get("train_dataloader") or {}).get("dataset") or {}
    while isinstance(dataset, dict) and ("dataset" in dataset or "datasets" in dataset):
        dataset = dataset.get("dataset") or dataset["datasets"]
        dataset = dataset[0] if isinstance(dataset, list) else dataset
    own = (dataset.get("metainfo") or {}).get("classes")
    kind = DATASETS.get(dataset["type"]) if isinstance(dataset.get("type"), str) else None
    names = own or (kind.METAINFO.get("classes") if kind is not None else None)
    return tuple(names) if names and not isinstance(names, str) else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
