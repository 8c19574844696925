"""A model looked at while it runs on a black image: where its maps are, and what belongs together in its backbone.

A backbone's parts are taken in the order in which they run; a stage ends where the stride of the feature map changes,
or where dilation takes the place of a stride. This serves ResNet, MobileNetV2, CSPDarknet, MiT, MSCAN and whatever else
gives maps or square grids of tokens, and is a true partition for anything at all: what never runs, or gives neither,
goes with what stands before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import LayerGroup, Tap
from tlvision.types import InputError
from tlvision_openmmlab.common.engine import without_old_style
from tlvision_timm.backbone import TimmBackbone

# Sides of the black image whose maps tell the strides; the second for models that cannot take the first.
_PROBE_SIZES = (128, 512)

# The coarsest stride that divides every network input.
_COARSEST = 32

# Backbones whose parts each hold a stage and the way to the next: their stages, each with the norm of its output.
_TOKEN_STAGES = {
    "PyramidVisionTransformer": "layers",
    "PyramidVisionTransformerV2": "layers",
    "SwinTransformer": "stages",
}


class PassThrough:
    """A forward hook on a backbone or neck that sends each of its maps through a module of its own, for taps.

    points: one module for each output, which returns its input.
    main:   for a part that gives one map in eval mode and several in train mode, the place of that one among them.
    """

    def __init__(self, points: list[nn.Module], main: int = 0) -> None:
        self.points, self.main = points, main

    def __call__(self, module: nn.Module, inputs: object, output: Any) -> Any:
        """Return the output, each map having gone through its point."""
        if isinstance(output, Tensor):
            return self.points[0](output)
        places = range(self.main, self.main + len(self.points))
        passed = [
            self.points[at - self.main](each) if at in places and isinstance(each, Tensor) else each
            for at, each in enumerate(output)
        ]
        return type(output)(passed)


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the backbone.

    path: dotted name in the model. stride: of the map that it gives, of several the first, times its dilation; 0 if
    it gives none.
    """

    path: str
    stride: int


def add_map_taps(
    model: Any, forward: Callable[[Tensor], object], *, main: int = 0, dilated: bool = False
) -> tuple[Tap, ...]:
    """Give `model` a module to capture for each map of backbone and neck; return them: c2, c3, …, then p2, p3, ….

    forward: runs backbone and neck. main: see `PassThrough`, for the backbone. The number is log2 of the stride, which
    is 32 at most: coarser maps do not tile every input. Of several maps of one stride there is the first; where
    `dilated` and the strides do not fall from one map to the next, the others have the numbers that follow. The places
    lie in `model.tap_points`, which holds no state.
    """
    model.tap_points = nn.ModuleDict()
    found: list[Tap] = []
    for letter, name in (("c", "backbone"), ("p", "neck")):
        part = getattr(model, name, None)
        if part is None:
            continue
        points: list[nn.Module] = []
        side, outputs = outputs_of(model, part, forward)
        heights = [output.shape[2] for output in outputs]
        counts_on = dilated and heights == sorted(heights, reverse=True)
        for output in outputs:
            point = nn.Identity()
            points.append(point)
            stride, rest = divmod(side, output.shape[2])
            number = round(math.log2(stride))
            while counts_on and f"{letter}{number}" in model.tap_points:
                number += 1
            level = f"{letter}{number}"
            if not rest and stride <= _COARSEST and level not in model.tap_points:
                model.tap_points[level] = point
                found.append(Tap(level, f"tap_points.{level}", output.shape[1], stride))
        part.register_forward_hook(PassThrough(points, main if name == "backbone" else 0))
    return tuple(sorted(found, key=lambda tap: tap.stride))


def outputs_of(model: nn.Module, part: nn.Module, forward: Callable[[Tensor], object]) -> tuple[int, list[Tensor]]:
    """Return the side of a black image, and the leading maps, (1, C, H, W) each, that `part` gives for it."""
    outputs: list[Any] = []
    handle = part.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        side = run_on_black(model, forward)
    finally:
        handle.remove()
    last = outputs[-1] if outputs else ()
    maps = [last] if isinstance(last, Tensor) else list(last)
    while maps and not (isinstance(maps[-1], Tensor) and maps[-1].ndim == 4):
        maps.pop()
    return side, maps if all(isinstance(each, Tensor) and each.ndim == 4 for each in maps) else []


def run_on_black(model: nn.Module, forward: Callable[[Tensor], object]) -> int:
    """Call `forward` with a black square, (1, 3, S, S), in eval mode, and return S; the model is left in train mode."""
    model.eval()
    try:
        with torch.no_grad(), without_old_style():
            *sides, last = _probe_sizes(model)
            device = next(model.parameters()).device
            for side in sides:
                try:
                    forward(torch.zeros(1, 3, side, side, device=device))
                    return side
                except (RuntimeError, InputError):  # too small for the model, or not the size it was built for
                    continue
            forward(torch.zeros(1, 3, last, last, device=device))
            return last
    finally:
        model.train()


def _probe_sizes(model: Any) -> tuple[int, ...]:
    """Return the sides to try: between ours that which the backbone was built for, where it fixes one."""
    own = getattr(getattr(model, "backbone", None), "img_size", None)
    return (_PROBE_SIZES[0], *own[:1], *_PROBE_SIZES[1:]) if isinstance(own, tuple) else _PROBE_SIZES


def backbone_segments(
    model: Any, path: str, forward: Callable[[Tensor], object], *, opened: Collection[str] = ()
) -> list[list[str]]:
    """Return the paths of the stem and of each stage; together all of the state of the backbone at `path`.

    forward: runs the backbone. opened: names of children that stand for the parts in them, for a branch that has all
    stages in it.
    """
    backbone = model.get_submodule(path)
    if isinstance(backbone, TimmBackbone):
        return [[f"{path}.{name}" for name in segment] for segment in backbone.segments]
    tokens = _TOKEN_STAGES.get(type(backbone).__name__)
    segments = _token_segments(backbone, path, tokens) if tokens else _probed_segments(model, path, forward, opened)
    single = [name for name, _ in (*backbone.named_parameters(recurse=False), *backbone.named_buffers(recurse=False))]
    segments[0] += [f"{path}.{name}" for name in single]
    return segments


def pyramid_group(model: Any) -> list[LayerGroup]:
    """Return the group of the pyramid inside a plain transformer of timm, which no weights of timm hold; else none."""
    found = getattr(model.backbone, "pyramid", None) if isinstance(model.backbone, TimmBackbone) else None
    return [] if found is None else [LayerGroup("pyramid", "neck", ("backbone.pyramid",))]


def named_parts(module: nn.Module) -> list[str]:
    """Return the names of children, parameters and buffers right below `module` that hold state."""
    children = [name for name, child in module.named_children() if has_state(child)]
    single = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
    return children + single


def preprocessor(model: Any) -> list[str]:
    """Return the path of what normalises images before the backbone; empty if it has no state, as in our builds."""
    found = getattr(model, "data_preprocessor", None)
    return ["data_preprocessor"] if found is not None and has_state(found) else []


def has_state(module: nn.Module) -> bool:
    """Return whether there is a parameter or a buffer in `module`."""
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _token_segments(backbone: nn.Module, path: str, stages: str) -> list[list[str]]:
    count = len(getattr(backbone, stages))
    segments: list[list[str]] = [[] for _ in range(count + 1)]
    for name, child in backbone.named_children():
        if name == stages:
            for number in range(count):
                segments[number + 1].append(f"{path}.{name}.{number}")
        elif has_state(child):
            digits = name.removeprefix("norm")
            segments[int(digits) + 1 if digits.isdigit() else 0].append(f"{path}.{name}")
    return segments


def _probed_segments(
    model: nn.Module, path: str, forward: Callable[[Tensor], object], opened: Collection[str]
) -> list[list[str]]:
    """Return the segments of the backbone's parts; where they make no stages, those of the parts of the parts."""
    found = _callable_parts(model.get_submodule(path), path)
    open_paths = {f"{path}.{name}" for name in opened}
    parts = [each for part in found for each in (_below(part) if part[0] in open_paths else [part])]
    segments = _map_segments(_units(model, parts, forward))
    if len(segments) > 2 or not any(_below(each) for each in parts):
        return segments
    finer = _map_segments(_units(model, [each for part in parts for each in _below(part) or [part]], forward))
    return finer if len(finer) > len(segments) else segments


def _below(part: tuple[str, nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the parts of a part, unless it has state of its own."""
    path, module = part
    own = any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
    return [] if own else list(_callable_parts(module, path))


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


def _units(model: nn.Module, parts: list[tuple[str, nn.Module]], forward: Callable[[Tensor], object]) -> list[Unit]:
    """Return the parts, those that run in the order in which they first do, then the others."""
    paths = {module: path for path, module in parts}
    heights: dict[nn.Module, int] = {}

    def record(module: nn.Module, inputs: object, output: Any) -> None:
        heights.setdefault(module, _height(output))

    handles = [module.register_forward_hook(record) for module in paths]
    try:
        side = run_on_black(model, forward)
    finally:
        for handle in handles:
            handle.remove()
    seen = [
        Unit(paths[module], _nominal(module, side // height) if height else 0) for module, height in heights.items()
    ]
    return [*seen, *(Unit(path, 0) for module, path in paths.items() if module not in heights)]


def _height(output: Any) -> int:
    """Return the height of a map, (N, C, H, W), or of a square grid of tokens, (N, H * W, C); of several the first."""
    first = output[0] if isinstance(output, list | tuple) and output else output
    if isinstance(first, Tensor) and first.ndim == 4:
        return first.shape[2]
    return math.isqrt(first.shape[1]) if isinstance(first, Tensor) and first.ndim == 3 else 0


def _nominal(module: nn.Module, stride: int) -> int:
    """Return the stride that the part would give had it not dilated convolutions in its place."""
    convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
    dilation = max((max(each.dilation) for each in convolutions if max(each.kernel_size) > 1), default=1)
    return min(stride * dilation, _COARSEST)


def _callable_parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children with state; lists, which do not run themselves, are replaced by their items."""
    for name, child in module.named_children():
        if not has_state(child):
            continue
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _callable_parts(child, f"{path}.{name}")
        else:
            yield f"{path}.{name}", child
