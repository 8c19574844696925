"""Pretrained tensors into a model of OpenMMLab: where they come from, which keys they fit, whose rows they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from tlvision.plugin import BuildSpec, WeightReport
from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.head_rows import ClassRows, Layout, Special, load_by_class_name
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError, listing
from tlvision_openmmlab.common.config import ModelConfig
from tlvision_timm.backbone import TimmBackbone
from tlvision_timm.names import is_timm, timm_name
from tlvision_timm.weights import fit, pretrained_file

# A backbone, or the one inside it: that which a checkpoint for backbones is of.
_BACKBONE = re.compile(r"backbone\.(?:\w+\.)*?backbone\.")
# The layers of PointRend's heads, of which each also reads the coarse scores of a point.
_POINT_LAYER = re.compile(r"\.fcs\.\d+\.|\.fc_seg\.|\.fc_logits\.")
_METAFILES = ("metafile.yml", "metafile.yaml")


def find_weights(config: ModelConfig, weights: str, *, trained: str) -> TensorFile | None:
    """Read the file that `weights` refers to, with the keys of the model; None for "none".

    trained: the word for the checkpoint that the library's model zoo lists for the config, or for the config's own
             `load_from`; "imagenet" is what the config starts its backbone from. Both are downloaded into torch's hub
             folder unless they lie there.

    Raises InputError if there is none, it cannot be had, or it cannot be read.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        if config.backbone_weights is None:
            raise InputError(f"model.weights: '{config.path.name}' names no backbone weights; give 'none' or a path")
        address, prefix = config.backbone_weights
        if is_timm(address):
            return pretrained_file(timm_name(address), weights)
        file = read_tensors(_local(address, weights))
        return replace(file, tensors={key.removeprefix(prefix): tensor for key, tensor in file.tensors.items()})
    if weights == trained:
        found = config.load_from or _zoo_checkpoint(config.path)
        if found is None:
            raise InputError(
                f"model.weights: {config.library}'s model zoo lists no checkpoint for '{config.path.stem}'; give "
                "'imagenet', 'none' or the path of one"
            )
        return read_tensors(_local(found, weights))
    return read_tensors(weights)


def load_weights(
    model: nn.Module,
    file: TensorFile | None,
    spec: BuildSpec,
    *,
    build: Callable[[int], nn.Module],
    config: ModelConfig,
    by_position: Collection[str] = (),
) -> WeightReport:
    """Copy the tensors of `file`, if there is one, into `model`, in place, and report on every key.

    model:   as `build(len(spec.classes))` gives it.
    build:   builds the same model for another number of classes, to see which keys count them.
    by_position: keys that have a row a class, the first of which is something else, whatever the classes are.

    A file for the backbone alone may lack the prefix "backbone.", and may be another library's, as long as it has the
    same layers in the same order. A file that does not name its classes has those of the config's own dataset, where
    their number fits. Raises InputError if the file belongs to another architecture.
    """
    if file is None:
        return WeightReport(source="none", missing=tuple(model.state_dict()))
    classes = spec.classes.names
    file = _named_classes(_fitted(model, file), config)
    layouts: dict[str, Layout] = {}
    if file.class_names != tuple(classes):
        layouts = class_layouts(model, build(len(classes) + 1), len(classes))
        layouts |= dict.fromkeys(by_position, Special.BY_POSITION)
    _check_belongs(model, file, layouts, config)
    return replace(load_by_class_name(model, file, classes, layouts), source=spec.weights)


def class_layouts(model: nn.Module, larger: nn.Module, classes: int) -> dict[str, Layout]:
    """Return the keys that count the classes, with how: found by comparing `model` with one of a class more.

    classes: the number of classes of `model`.
    """
    state, wider = model.state_dict(), larger.state_dict()
    layouts: dict[str, Layout] = {}
    for key, tensor in state.items():
        other = wider.get(key)
        if other is None or other.shape == tensor.shape:
            continue
        if other.ndim != tensor.ndim:
            layouts[key] = Special.UNKNOWN
            continue
        added = {dim: other.shape[dim] - size for dim, size in enumerate(tensor.shape) if other.shape[dim] != size}
        found = [_layout(key, more, tensor.shape[dim] - more * classes, dim) for dim, more in added.items()]
        known = tuple(each for each in found if each is not None)
        layouts[key] = Special.UNKNOWN if len(known) < len(found) else known[0] if len(known) == 1 else known
    return layouts


def _layout(key: str, added: int, rest: int, dim: int = 0) -> ClassRows | None:
    """Return the layout of a dimension that grows by `added` rows a class and has `rest` rows of none.

    None if it is not known. The names are those of mmdet's and mmseg's layers, and the order is what their forward
    passes make of the rows.
    """
    layer = next(name for name in reversed(key.split(".")[:-1]) if not name.isdigit())
    found = None
    if (added, rest) == (1, 0):
        found = ClassRows(dim=dim)
    elif dim == 1 and added == 1 and _POINT_LAYER.search(key):
        found = ClassRows(before=rest, dim=1)  # a point's fine features, then its coarse scores
    elif dim or added < 1 or rest % added:
        found = None
    elif re.search(r"reg|bbox_pred|fc_logits", layer):
        # A box of its own for each class, or PointRend's coarse mask: all numbers of a class, then of the next.
        found = ClassRows(per_class=added) if not rest else None
    elif layer == "convs_pred":  # YOLOv3: box and objectness in front of the classes of each anchor
        found = ClassRows(blocks=added, before=rest // added)
    elif "cls" in layer:  # the classes of each anchor, then background if any
        found = ClassRows(blocks=added, after=rest // added)
    return found


def backbone_prefix(state: Iterable[str]) -> str:
    """Return the prefix of the backbone's keys; if it contains another backbone, the prefix of that.

    >>> backbone_prefix(["backbone.conv.weight", "head.weight"])
    'backbone.'
    >>> backbone_prefix(["backbone.context_path.backbone.stem.0.weight", "backbone.ffm.conv.weight"])
    'backbone.context_path.backbone.'
    """
    found = next(filter(None, map(_BACKBONE.match, state)), None)
    return found.group() if found else "backbone."


def _fitted(model: nn.Module, file: TensorFile) -> TensorFile:
    """Return the file with the model's keys; those of a backbone of another library are matched in their order."""
    if isinstance(model.backbone, TimmBackbone):
        return fit(file, model.backbone, "backbone.")
    state = model.state_dict()
    if any(key in state for key in file.tensors):
        return file
    prefix = backbone_prefix(state)
    prefixed = {(prefix + key if prefix + key in state else key): tensor for key, tensor in file.tensors.items()}
    if any(key in state for key in prefixed):
        return replace(file, tensors=prefixed)
    model_keys = [key for key in state if key.startswith(prefix)]
    file_keys = list(file.tensors)[: len(model_keys)]
    shapes = [state[key].shape for key in model_keys], [file.tensors[key].shape for key in file_keys]
    if shapes[0] != shapes[1]:
        return file
    rest = {key: tensor for key, tensor in file.tensors.items() if key not in file_keys}
    tensors = {model_key: file.tensors[file_key] for model_key, file_key in zip(model_keys, file_keys, strict=True)}
    return replace(file, tensors=tensors | rest)


def _named_classes(file: TensorFile, config: ModelConfig) -> TensorFile:
    return file if file.class_names or not config.classes else replace(file, class_names=config.classes)


def _check_belongs(model: nn.Module, file: TensorFile, layouts: Mapping[str, Layout], config: ModelConfig) -> None:
    state = model.state_dict()
    prefix = backbone_prefix(state)
    body = {key: tensor for key, tensor in state.items() if key.startswith(prefix) and key not in layouts}
    found = [key for key in body if key in file.tensors]
    wrong = file.other_shapes(body)
    if wrong:
        shown = listing(wrong, limit=3)
        raise InputError(
            f"model.weights: '{file.path}' belongs to another architecture than '{config.path.stem}', {len(wrong)} "
            f"tensors of the backbone differ in shape: {shown}; set model.arch to the file's architecture"
        )
    if 2 * len(found) < len(body):
        raise InputError(
            f"model.weights: '{file.path}' has only {len(found)} of the {len(body)} tensors of the backbone of "
            f"'{config.path.stem}' (wanted: {listing(body, limit=2)}; there: {listing(file.tensors, limit=2)}); set "
            "model.arch to what the file holds, or give its own weights"
        )


def _zoo_checkpoint(path: Path) -> str | None:
    """Return the address in the zoo's metafile next to the config."""
    metafile = next((path.parent / name for name in _METAFILES if (path.parent / name).is_file()), None)
    if metafile is None:
        return None
    content: Any = yaml.safe_load(metafile.read_text(encoding="utf-8"))
    models = content.get("Models", []) if isinstance(content, dict) else content
    for model in models:
        configs = model.get("Config")
        names = [configs] if isinstance(configs, str) else configs or []
        if any(Path(name).stem == path.stem for name in names) and isinstance(model.get("Weights"), str):
            return str(model["Weights"])
    return None


def _local(address: str, weights: str) -> Path:
    """Return the file for an address as mmengine writes it, downloaded into torch's hub folder unless it is there."""
    import torch

    url = _url(address)
    if not url.startswith(("http://", "https://")):
        return Path(url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))
    except OSError as error:  # urllib's errors are OSErrors
        raise InputError(
            f"model.weights: '{weights}' needs {url}, which could not be downloaded ({error}); fetch it on a connected "
            f"machine and put it into {path.parent}, or give 'weights: path/to/{path.name}'"
        ) from error
    return path


def _url(address: str) -> str:
    """Resolve the short forms of mmengine: "torchvision://resnet50", "open-mmlab://…"."""
    kind, _, name = address.partition("://")
    if kind in ("modelzoo", "torchvision"):
        from torchvision.models import get_model_weights

        weights = get_model_weights(name.lower())
        return str(weights["IMAGENET1K_V1"].url)
    if kind in ("open-mmlab", "openmmlab", "mmcls"):
        from mmengine.runner.checkpoint import get_external_models, get_mmcls_models

        known = get_mmcls_models() if kind == "mmcls" else get_external_models()
        if name not in known:
            raise InputError(f"model.weights: the config names '{address}', which mmengine does not know; give a path")
        return str(known[name])
    return address
