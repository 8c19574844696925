"""An ultralytics detector by name: its description, its head's size, where its weights come from."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import nn

from tlvision.plugin import BuildSpec, WeightReport
from tlvision.plugin.class_weights import weights_in_order
from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError
from tlvision_yolo.adapter import YoloAdapter
from tlvision_yolo.architectures import Architecture
from tlvision_yolo.options import YoloOptions
from tlvision_yolo.segment import YoloSegmentAdapter
from tlvision_yolo.transfer import class_branches, load_weights
from tlvision_yolo.upstream import (
    DEFAULT_CFG,
    ROOT,
    SETTINGS,
    DetectionModel,
    SegmentationModel,
    attempt_download_asset,
    quiet,
    version,
)

ASSETS = "https://github.com/ultralytics/assets/releases"


def build_adapter(arch: Architecture, spec: BuildSpec) -> tuple[YoloAdapter, WeightReport]:
    """Build `arch` with a head for `spec.classes` and load `spec.weights` into it; see `YoloPlugin.build`."""
    description = read_description(arch)
    file = find_weights(arch, spec.weights)
    width = class_branch_width(description, file)
    model = build_model(description, len(spec.classes), width, masks=arch.task == "instance")
    model.names = dict(enumerate(spec.classes.names))
    options = spec.options if spec.options is not None else YoloOptions()
    if not isinstance(options, YoloOptions):
        raise InputError(f"model.options: plugin 'yolo' expects YoloOptions, got {type(options).__name__}")
    weights = weights_in_order(options.class_weights, spec.classes.names)
    if weights is not None:
        model.class_weights = torch.tensor(weights)  # read by upstream's losses
    kind = YoloSegmentAdapter if arch.task == "instance" else YoloAdapter
    adapter = kind(model, spec.predict)
    if file is None:
        return adapter, WeightReport(source="none", missing=tuple(model.state_dict()))
    return adapter, load_weights(model, file, spec.classes.names, source=spec.weights, arch=spec.arch)


def read_description(arch: Architecture) -> dict[str, Any]:
    """Read ultralytics' own description of `arch` as a dict with the keys nc, backbone, head, scale.

    The file is named exactly: ultralytics itself would take one of the same name from the current folder.
    """
    path = Path(ROOT) / "cfg" / "models" / arch.yaml
    if not path.is_file():
        raise InputError(
            f"model.arch: ultralytics {version} does not have '{arch.name}'; pip install --upgrade ultralytics"
        )
    description: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    # The keys that ultralytics adds when it reads such a file by name.
    return description | {"scale": arch.scale, "yaml_file": f"{arch.name}.yaml"}


def class_branch_width(description: dict[str, Any], file: TensorFile | None) -> int | None:
    """Return the hidden width of the class branch that `file` holds, or None if it holds none."""
    head = len(description["backbone"]) + len(description["head"]) - 1
    last = file.tensors.get(f"model.{head}.cv3.0.2.weight") if file is not None else None
    return int(last.shape[1]) if last is not None and last.ndim == 4 else None


def build_model(
    description: dict[str, Any], num_classes: int, class_width: int | None = None, *, masks: bool = False
) -> Any:
    """Build ultralytics' DetectionModel, freshly initialised, in train mode, for `num_classes` classes.

    class_width: hidden width of the class branch, where it must be that of given weights. Upstream derives it from the
                 number of classes at training time, max(channels of the finest level, min(classes, 100)), so a model
                 built for `class_width` classes has it; its last layers are then replaced.
    masks:       the description is that of a SegmentationModel, which is built instead.
    """
    kind = SegmentationModel if masks else DetectionModel
    with quiet():
        model: Any = kind(copy.deepcopy(description), nc=class_width or num_classes, verbose=False)  # type: ignore[no-untyped-call]
    if class_width is not None and class_width != num_classes:
        _resize_classes(model, num_classes)
    _make_projection_constant(model)
    # What upstream's criterion reads of its trainer's configuration. Two epochs make its decay over epochs a function
    # of the fraction done, see YoloAdapter.set_progress.
    model.args = SimpleNamespace(
        box=DEFAULT_CFG.box, cls=DEFAULT_CFG.cls, dfl=DEFAULT_CFG.dfl, overlap_mask=True, epochs=2
    )
    return model


def _resize_classes(model: Any, num_classes: int) -> None:
    """Replace the last layer of each class branch, keeping the hidden layers, and initialise its bias as upstream."""
    head = model.model[-1]
    fresh: dict[str, nn.Module] = {}
    for name, layers in class_branches(head).items():
        place = name.rpartition(".")[2]
        if place not in fresh:
            fresh[place] = nn.Conv2d(layers[-1].in_channels, num_classes, 1)
        layers[-1] = copy.deepcopy(fresh[place])
    head.nc = num_classes
    head.no = num_classes + 4 * head.reg_max
    model.yaml["nc"] = num_classes
    head.bias_init()


def _make_projection_constant(model: Any) -> None:
    """Turn the fixed 0..15 of the box distribution from a parameter that must never be trained into a buffer.

    Upstream's trainer freezes it by name. As a buffer it keeps its key, and no freeze or unfreeze can reach it.
    """
    projection = getattr(model.model[-1].dfl, "conv", None)
    if projection is not None:
        weight = projection.weight.detach()
        del projection.weight
        projection.register_buffer("weight", weight)


def find_weights(arch: Architecture, weights: str) -> TensorFile | None:
    """Read the file that `weights` refers to; None for "none".

    Raises InputError if they are not offered, cannot be downloaded, or the file cannot be read.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        raise InputError(
            "model.weights: plugin 'yolo' offers no 'imagenet' weights for detectors; give 'coco', 'none' or a path"
        )
    return read_tensors(_coco_file(arch) if weights == "coco" else weights)


def _coco_file(arch: Architecture) -> Path:
    for folder in (Path(), Path(SETTINGS["weights_dir"])):
        if (folder / arch.weights).is_file():
            return folder / arch.weights
    reason = "it did not arrive"
    try:
        path = Path(attempt_download_asset(arch.weights))
    except Exception as error:  # requests', urllib's and ultralytics' own: all say that there is no file
        path, reason = Path(arch.weights), f"{type(error).__name__}: {error}"
    if not path.is_file():
        raise InputError(
            f"model.weights: 'coco' needs ultralytics' file {arch.weights}, which could not be downloaded ({reason}); "
            f"fetch it on a connected machine from {ASSETS} and give 'weights: path/to/{arch.weights}'"
        )
    return path
