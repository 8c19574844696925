"""Layer groups and taps of a built torchvision detector: a stage ends where the stride changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from tlvision.plugin import LayerGroup, Tap
from tlvision_torchvision.backbones import ChannelsLastBody, Layer, chain_of, probe
from tlvision_torchvision.timm_backbones import TimmBody

# What every input is a multiple of; a coarser map need not be exactly the input over its stride.
COARSEST = 32
_PROBE_SIZE = 128


def find_layers(model: Any) -> list[Layer]:
    """Return the layers of the body with their dotted names in `model`, channels and strides; of timm's the maps."""
    body = getattr(model.backbone, "body", None)
    if isinstance(body, TimmBody):
        maps = zip(body.timm.channels, body.timm.strides, strict=True)
        return [Layer(f"backbone.body.maps.{at}", *each) for at, each in enumerate(maps)]
    channels_last = isinstance(getattr(model.backbone, "body", None), ChannelsLastBody)
    return probe(chain_of(model), channels_last=channels_last)


def find_groups(model: Any, layers: Sequence[Layer]) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., neck, and head.rpn and head.roi or, for one-stage detectors, head.

    The stem is what comes before stride 4, the first layer in any case. The box and mask branches of a region are one
    group: they are trained on the same sample of regions. SSDlite's neck is the layers after its MobileNet.
    """
    body = getattr(model.backbone, "body", None)
    if isinstance(body, TimmBody):
        stem, *stages = [[f"backbone.body.timm.{path}" for path in each] for each in body.timm.segments]
    else:
        stem, *stages = _stages(model, layers)
    groups = [LayerGroup("stem", "stem", tuple(stem))]
    groups += [LayerGroup(f"backbone.stage{at}", "backbone", tuple(stage)) for at, stage in enumerate(stages, 1)]
    groups = _with_output_norms(model, groups)
    neck = "backbone.extra" if hasattr(model.backbone, "extra") else "backbone.fpn"
    groups.append(LayerGroup("neck", "neck", (neck,)))
    if not hasattr(model, "roi_heads"):
        return (*groups, LayerGroup("head", "head", ("head",)))
    branches = [
        f"roi_heads.{name}"
        for name, child in model.roi_heads.named_children()
        if next(child.parameters(), None) is not None
    ]
    # Not `rpn` and `roi_heads` themselves: they choose between losses and finds by their mode.
    heads = {"head.rpn": ("rpn.head",), "head.roi": tuple(branches)}
    return (*groups, *(LayerGroup(name, "head", paths, reads=("neck",)) for name, paths in heads.items()))


def _stages(model: nn.Module, layers: Iterable[Layer]) -> list[list[str]]:
    stages: list[list[str]] = []
    stride = 0
    for layer in layers:
        now = max(layer.stride, 2)
        # The first layer of a transformer or a ConvNeXt goes to stride 4 at once and is its stem.
        if now != stride or (len(stages) == 1 and now >= 4):
            stages.append([])
        stride = now
        stages[-1].append(layer.path)
    # A last pooling (VGG) or a first (ShuffleNet) of a stride of its own has nothing to train and joins what it reads.
    joined: list[list[str]] = []
    for stage in stages:
        if joined and not any(_has_tensors(model.get_submodule(path)) for path in stage):
            joined[-1] += stage
        else:
            joined.append(stage)
    return joined


def _has_tensors(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None


def _with_output_norms(model: Any, groups: list[LayerGroup]) -> list[LayerGroup]:
    """Add the norms at the outputs of a channels-last body to the stages that they follow."""
    body = getattr(model.backbone, "body", None)
    if not isinstance(body, ChannelsLastBody):
        return groups
    norms = {f"backbone.body.layers.{name}": f"backbone.body.stages.{name}" for name in body.stages}
    return [
        LayerGroup(each.name, each.role, (*each.modules, *(norms[path] for path in each.modules if path in norms)))
        for each in groups
    ]


def find_taps(model: Any, layers: Sequence[Layer]) -> tuple[Tap, ...]:
    """Return c2, p2, c3, p3, …: the body's last map of each stride, and the pyramid's map of that stride.

    The number is log2 of the stride: p3 has stride 8. Levels coarser than stride 32 are left out, and so are the levels
    of SSDlite, which are the body's own maps. Of two pyramid levels of one stride the second is called p5_2.
    """
    body = getattr(model.backbone, "body", None)
    last = {layer.stride: layer for layer in layers if 4 <= layer.stride <= COARSEST}
    taps = []
    for stride, layer in last.items():
        path = layer.path
        if isinstance(body, ChannelsLastBody):
            path = path.replace(".layers.", ".stages.")
            if path.rpartition(".")[2] not in body.stages:
                continue  # a stage that goes into nothing has no map of (N, C, H, W)
        taps.append(Tap(f"c{round(math.log2(stride))}", path, layer.channels, stride))
    return tuple(sorted([*taps, *_pyramid_taps(model)], key=lambda tap: tap.stride))


def _pyramid_taps(model: Any) -> list[Tap]:
    fpn = getattr(model.backbone, "fpn", None)
    if fpn is None:
        return []
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            maps = list(model.backbone.eval()(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE)).values())
    finally:
        for module, training in modes:
            module.training = training
    taps: list[Tap] = []
    for level, (map_, _) in enumerate(zip(maps, fpn.layer_blocks, strict=False)):  # levels from extra blocks come after
        stride = _PROBE_SIZE // map_.shape[2]
        again = sum(tap.stride == stride for tap in taps)
        name = f"p{round(math.log2(stride))}" + (f"_{again + 1}" if again else "")
        taps.append(Tap(name, f"backbone.fpn.layer_blocks.{level}", map_.shape[1], stride))
    return taps
