"""Layer groups and taps of an ultralytics detector, derived from the parsed model.

A model is a list of layers, each of which names the layers it reads from. The description tells where the backbone
ends; a forward pass tells the stride of each layer's output; a group ends where the stride changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import LayerGroup, Tap

# A multiple of every stride, and coarse maps that the area attention of v12 can still divide by four.
_PROBE_SIZE = 128


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """The output of one layer: channels and stride of its feature map; None if it returns several maps."""

    channels: int
    stride: int


def probe(model: Any) -> list[LayerOutput | None]:
    """Return the outputs of all layers but the head, found by one forward pass of a black image.

    The model is left in train mode and its state untouched.
    """
    outputs: list[LayerOutput | None] = []

    def record(layer: nn.Module, inputs: object, output: object) -> None:
        single = isinstance(output, Tensor)
        outputs.append(LayerOutput(output.shape[1], _PROBE_SIZE // output.shape[2]) if single else None)  # type: ignore[attr-defined]

    handles = [layer.register_forward_hook(record) for layer in model.model[:-1]]
    model.eval()
    try:
        with torch.no_grad():
            device = next(model.parameters()).device
            model(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE, device=device))
    finally:
        model.train()
        for handle in handles:
            handle.remove()
    return outputs


def find_groups(model: Any, outputs: list[LayerOutput | None]) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., neck.top_down1.., neck.bottom_up1.., head, in the order of the computation.

    The stem is what comes before stride 4. A backbone stage ends where the stride changes, so what follows the last
    downsampling (SPPF, attention) is in the last stage. The neck goes down to fine strides and up again; each change of
    stride begins a group.
    """
    end = len(model.yaml["backbone"])
    stem, *stages = _backbone_segments(model, outputs, end)
    groups = [LayerGroup("stem", "stem", _paths(stem))]
    groups += [LayerGroup(f"backbone.stage{n}", "backbone", _paths(stage)) for n, stage in enumerate(stages, 1)]
    counts = {"top_down": 0, "bottom_up": 0}
    for direction, layers in _neck_segments(outputs, end):
        counts[direction] += 1
        groups.append(LayerGroup(f"neck.{direction}{counts[direction]}", "neck", _paths(layers)))
    return (*groups, LayerGroup("head", "head", _paths([len(outputs)])))


def find_taps(model: Any, outputs: list[LayerOutput | None]) -> tuple[Tap, ...]:
    """Return c3, p3, c4, p4, …: for each level of the head, the backbone's last map of its stride, then its input.

    The number is log2 of the stride: p3 has stride 8.
    """
    end = len(model.yaml["backbone"])
    taps = []
    for layer in sorted(model.model[-1].f, key=lambda index: _single(outputs, index).stride):
        stride = _single(outputs, layer).stride
        level = round(math.log2(stride))
        in_backbone = [index for index in range(end) if (found := outputs[index]) and found.stride == stride]
        for name, index in ((f"c{level}", in_backbone[-1]), (f"p{level}", layer)):
            taps.append(Tap(name, f"model.{index}", _single(outputs, index).channels, stride))
    return tuple(taps)


def _backbone_segments(model: Any, outputs: list[LayerOutput | None], end: int) -> list[list[int]]:
    segments: list[list[int]] = []
    segment_of: dict[int, list[int]] = {}
    stride = 0
    for index in range(end):
        output = outputs[index]
        if output is None:
            # Projections of a stage for a second column (v9e): they read this stage and nothing later.
            segment = segment_of[_source(model, index)]
        else:
            # An identity at stride 1 belongs to the stem.
            if max(output.stride, 2) != stride:
                stride = max(output.stride, 2)
                segments.append([])
            segment = segments[-1]
        segment.append(index)
        segment_of[index] = segment
    return segments


def _neck_segments(outputs: list[LayerOutput | None], end: int) -> list[tuple[str, list[int]]]:
    segments: list[tuple[str, list[int]]] = []
    start = stride = _single(outputs, end - 1).stride
    pending: list[int] = []
    for index in range(end, len(outputs)):
        now = _single(outputs, index).stride
        if now == start and not segments:
            # A lateral layer at the backbone's own stride (v5) goes with what it feeds.
            pending.append(index)
            continue
        if now != stride:
            segments.append(("top_down" if now < stride else "bottom_up", pending))
            pending, stride = [], now
        segments[-1][1].append(index)
    return segments


def _source(model: Any, index: int) -> int:
    source: int = model.model[index].f
    return index - 1 if source == -1 else source


def _single(outputs: list[LayerOutput | None], index: int) -> LayerOutput:
    output = outputs[index]
    if output is None:
        raise TypeError(f"layer {index} gives several feature maps where one was expected")
    return output


def _paths(layers: list[int]) -> tuple[str, ...]:
    return tuple(f"model.{index}" for index in layers)
