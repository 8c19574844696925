"""Layer groups and taps of an mmdet detector: declared for transformers, found by a forward pass for the rest.

A backbone's parts are taken in the order in which they run; a stage ends where the stride of the feature map changes.
This serves ResNet, ResNeXt, MobileNetV2, ConvNeXt, CSPDarknet, CSPNeXt and whatever else gives maps, and is a true
partition for anything at all: what never runs, or gives no map, goes with what stands before it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import LayerGroup, Role, Tap
from tlvision_openmmlab.mmdet.upstream import without_old_style

# Sides of the black image whose maps tell the strides; the second for models that cannot take the first.
_PROBE_SIZES = (128, 512)

# The coarsest stride that divides every network input.
_COARSEST = 32

# Backbones whose parts pass tokens on, not maps: their stages, each with the norm of its output.
_TOKEN_STAGES = {
    "PyramidVisionTransformer": "layers",
    "PyramidVisionTransformerV2": "layers",
    "SwinTransformer": "stages",
}

# Parts of a detector from input to output; what is in none of them stands between the encoder and the decoder.
_EARLY: dict[str, tuple[Role, tuple[str, ...]]] = {
    "neck": ("neck", ("neck",)),
    "encoder": ("neck", ("level_embed", "encoder")),
}
_TURNS = ("decoder", "bbox_head")
_LATE = ("decoder", "rpn_head", "roi_head", "panoptic_head", "bbox_head", "mask_head")


class PassThrough:
    """A forward hook on a backbone or neck that sends each of its maps through a module of its own, for taps.

    points: one module for each output, which returns what it is given.
    """

    def __init__(self, points: list[nn.Module]) -> None:
        self.points = points

    def __call__(self, module: nn.Module, inputs: object, output: Any) -> Any:
        """Return the output, each map having gone through its point."""
        if isinstance(output, Tensor):
            return self.points[0](output)
        passed = [point(each) for point, each in zip(self.points, output, strict=False)]
        return type(output)([*passed, *output[len(passed) :]])


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the backbone.

    path: dotted name in the model. stride: of the map that it gives, of several the first; 0 where it gives none.
    """

    path: str
    stride: int


def add_taps(model: Any) -> tuple[Tap, ...]:
    """Give `model` a place to look at for each map of backbone and neck, and return them: c2, c3, …, then p2, p3, ….

    The number is log2 of the stride, which is 32 at most: coarser maps do not tile every input. The places lie in
    `model.tap_points`, which holds no state.
    """
    model.tap_points = nn.ModuleDict()
    found: list[Tap] = []
    for letter, name in (("c", "backbone"), ("p", "neck")):
        part = getattr(model, name, None)
        if part is None:
            continue
        points: list[nn.Module] = []
        side, outputs = _outputs_of(model, part)
        for output in outputs:
            stride, rest = divmod(side, output.shape[2])
            level = f"{letter}{round(math.log2(stride))}"
            point = nn.Identity()
            points.append(point)
            whole = not rest and stride <= _COARSEST
            if whole and level not in model.tap_points:  # of several maps of one stride, the first
                model.tap_points[level] = point
                found.append(Tap(level, f"tap_points.{level}", output.shape[1], stride))
        part.register_forward_hook(PassThrough(points))
    return tuple(sorted(found, key=lambda tap: tap.stride))


def find_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., neck, encoder, …, heads, in the order of the computation.

    A decoder that refines its boxes with the box head's own branches, as DINO's does, is in one group with that head.
    """
    stem, *stages = _backbone_segments(model)
    groups = [LayerGroup("stem", "stem", tuple(stem))] if stem else []
    groups += [LayerGroup(f"backbone.stage{n}", "backbone", tuple(stage)) for n, stage in enumerate(stages, 1)]
    parts = [name for name in _named_parts(model) if name != "backbone"]
    for name, (role, members) in _EARLY.items():
        inside = tuple(member for member in members if member in parts)
        groups += [LayerGroup(name, role, inside)] if inside else []
        parts = [part for part in parts if part not in inside]
    # The tokens and projections between encoder and decoder are small and have no order of their own.
    between = tuple(part for part in parts if part not in _LATE)
    groups += [LayerGroup("queries", "head", between)] if between else []
    late = [name for name in _LATE if name in parts]
    if _decoder_asks_the_box_head(model):
        late = [name for name in late if name not in _TURNS]
        groups.append(LayerGroup("decoder", "head", _TURNS))
    heads = [path for name in late for path in _head_paths(model, name)]
    return (*groups, *(LayerGroup(path, "head", (path,)) for path in heads))


def _decoder_asks_the_box_head(model: Any) -> bool:
    """Say whether decoder and box head take turns, layer by layer, so that neither stands before the other."""
    if not all(hasattr(model, name) for name in _TURNS):
        return False
    refines = "reg_branches" in inspect.signature(model.decoder.forward).parameters
    return bool(getattr(model, "as_two_stage", False) or (refines and getattr(model, "with_box_refine", True)))


def _head_paths(model: Any, name: str) -> list[str]:
    """Return the head's own path, or those of its parts where it is a box and a mask head, and more, in one."""
    if name != "roi_head":
        return [name]
    return [f"{name}.{part}" for part in _named_parts(getattr(model, name))]


def _named_parts(module: nn.Module) -> list[str]:
    """Return the names of children, parameters and buffers right below `module` that hold state."""
    children = [name for name, child in module.named_children() if _has_state(child)]
    single = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
    return children + single


def _has_state(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _backbone_segments(model: Any) -> list[list[str]]:
    """Return the paths of the stem and of each stage; together all of the backbone's state."""
    backbone = model.backbone
    tokens = _TOKEN_STAGES.get(type(backbone).__name__)
    segments = _token_segments(backbone, tokens) if tokens else _map_segments(_units(model))
    single = [name for name, _ in (*backbone.named_parameters(recurse=False), *backbone.named_buffers(recurse=False))]
    segments[0] += [f"backbone.{name}" for name in single]
    return segments


def _token_segments(backbone: nn.Module, stages: str) -> list[list[str]]:
    count = len(getattr(backbone, stages))
    segments: list[list[str]] = [[] for _ in range(count + 1)]
    for name, child in backbone.named_children():
        if name == stages:
            for number in range(count):
                segments[number + 1].append(f"backbone.{name}.{number}")
        elif _has_state(child):
            digits = name.removeprefix("norm")
            segments[int(digits) + 1 if digits.isdigit() else 0].append(f"backbone.{name}")
    return segments


def _map_segments(units: list[Unit]) -> list[list[str]]:
    segments: list[list[str]] = [[]]
    stride = 0
    for position, unit in enumerate(units):
        grows = unit.stride >= 4 and unit.stride > stride
        if grows and (position or len(units) == 1):
            segments.append([])
        stride = max(stride, unit.stride if position or unit.stride < 4 else 0)
        segments[-1].append(unit.path)
    return segments


def _units(model: Any) -> list[Unit]:
    """Return the backbone's parts with state, those that run in the order in which they first do, then the others."""
    backbone = model.backbone
    paths = {module: path for path, module in _callable_parts(backbone, "backbone")}
    heights: dict[str, int] = {}

    def record(module: nn.Module, inputs: object, output: Any) -> None:
        path = paths[module]
        first = output[0] if isinstance(output, list | tuple) and output else output
        is_map = isinstance(first, Tensor) and first.ndim == 4
        heights.setdefault(path, first.shape[2] if is_map else 0)

    handles = [module.register_forward_hook(record) for module in paths]
    try:
        side = _run(model)
    finally:
        for handle in handles:
            handle.remove()
    seen = [Unit(path, side // height if height else 0) for path, height in heights.items()]
    return [*seen, *(Unit(path, 0) for path in paths.values() if path not in heights)]


def _callable_parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children with state; of lists, which are not run themselves, what is in them."""
    for name, child in module.named_children():
        if not _has_state(child):
            continue
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _callable_parts(child, f"{path}.{name}")
        else:
            yield f"{path}.{name}", child


def _outputs_of(model: Any, part: nn.Module) -> tuple[int, list[Tensor]]:
    """Return the side of a black image, and the leading maps, (1, C, H, W) each, that `part` gives for it."""
    outputs: list[Any] = []
    handle = part.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        side = _run(model)
    finally:
        handle.remove()
    last = outputs[-1] if outputs else ()
    maps = [last] if isinstance(last, Tensor) else list(last)
    while maps and not (isinstance(maps[-1], Tensor) and maps[-1].ndim == 4):
        maps.pop()
    return side, maps if all(isinstance(each, Tensor) and each.ndim == 4 for each in maps) else []


def _run(model: Any) -> int:
    """Run backbone and neck on a black square and return its side; the model is left in train mode."""
    model.eval()
    try:
        with torch.no_grad(), without_old_style():
            for side in _PROBE_SIZES[:-1]:
                try:
                    model.extract_feat(torch.zeros(1, 3, side, side))
                    return side
                except RuntimeError:  # too small for a convolution without padding
                    continue
            model.extract_feat(torch.zeros(1, 3, _PROBE_SIZES[-1], _PROBE_SIZES[-1]))
            return _PROBE_SIZES[-1]
    finally:
        model.train()
