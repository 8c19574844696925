"""Layer groups and taps of a segmenter of smp, found from its encoder's own list of maps.

A stage is what its map depends on and the map before it does not: the graph of one forward pass says so for whatever
encoder, without knowing its modules. Every tensor is in exactly one group, and no group reads what a later one gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import LayerGroup, Tap

# About the height of the black image that is passed through; large enough for a map of stride 32 to have 2 x 2 cells.
_PROBE_SIDE = 64


@dataclass(frozen=True, slots=True)
class Probe:
    """Observations of one forward pass.

    side:    height of the image, which is twice as wide.
    maps:    the encoder's list, (1, C, h, w) each, with their graph; the image itself and empty maps among them.
    decoded: output of the decoder.
    """

    side: int
    maps: list[Tensor]
    decoded: Tensor


class PassThrough:
    """A forward hook on the encoder that sends each of its maps through a module of its own, for taps.

    points: by position in the encoder's list; each returns its input.
    """

    def __init__(self, points: dict[int, nn.Module]) -> None:
        self.points = points

    def __call__(self, module: nn.Module, inputs: object, output: Any) -> Any:
        """Return the output, each map having gone through its point."""
        if isinstance(output, tuple):  # a vision transformer's: maps, and tokens
            return self._passed(output[0]), *output[1:]
        return self._passed(output)

    def _passed(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self.points[at](each) if at in self.points else each for at, each in enumerate(maps)]


def probe(model: Any, multiple_of: int) -> Probe:
    """Pass a black image through `model`, whose modes and buffers are left as they were.

    Raises ValueError if the scores are not of the image's size, and whatever the model does where it cannot take it.
    """
    side = multiple_of * math.ceil(_PROBE_SIDE / multiple_of)
    seen: dict[str, Any] = {}
    handles = [
        model.encoder.register_forward_hook(lambda module, inputs, output: seen.update(maps=output)),
        model.decoder.register_forward_hook(lambda module, inputs, output: seen.update(decoded=output)),
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.enable_grad():
            scores = model(torch.zeros(1, 3, side, 2 * side))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    if tuple(scores.shape[2:]) != (side, 2 * side):
        raise ValueError(f"it gives scores of {tuple(scores.shape[2:])} for an image of {(side, 2 * side)}")
    maps = seen["maps"][0] if isinstance(seen["maps"], tuple) else seen["maps"]
    return Probe(side, list(maps), seen["decoded"])


def add_taps(model: Any, seen: Probe) -> tuple[Tap, ...]:
    """Give `model` a module to capture for each of the encoder's maps, and return them from fine to coarse.

    They are called c1, c2, … by their position in the encoder's list, which holds the image at 0; a map of the image's
    own size is left out. The places lie in `model.tap_points`, which has no state. The decoder's output is "decoder".
    """
    points: dict[int, nn.Module] = {}
    taps = [Tap("decoder", "decoder", seen.decoded.shape[1], seen.side // seen.decoded.shape[2])]
    # A vision transformer's list has no image in it.
    first = 0 if seen.maps[0].grad_fn is None or seen.maps[0].shape[2] == seen.side else 1
    for at, map_ in enumerate(seen.maps):
        stride, rest = divmod(seen.side, map_.shape[2])
        if map_.grad_fn is None or rest or stride == 1:
            continue
        points[at] = nn.Identity()
        taps.append(Tap(f"c{at + first}", f"tap_points.c{at + first}", map_.shape[1], stride))
    model.tap_points = nn.ModuleDict({f"c{at + first}": point for at, point in points.items()})
    model.encoder.register_forward_hook(PassThrough(points))
    return tuple(sorted(taps, key=lambda tap: tap.stride))


def find_groups(model: Any, seen: Probe) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., neck (the decoder) and head.

    The stem is what the encoder's map of stride 2 needs. Where the first map is coarser, as a transformer's is, it is
    what comes before the largest part of the first stage: the patch embedding. Layers of the encoder that the decoder
    has no use for, such as the last stages below PSPNet, are in the last of its groups.
    """
    stages = _stages(model.encoder, seen.maps)
    order = sorted(set(stages.values()))
    paths: list[list[str]] = [[] for _ in order]
    for path, stage in _largest_uniform(model.encoder, "encoder", stages):
        paths[order.index(stage)].append(path)
    strides = [seen.side // map_.shape[2] for map_ in seen.maps if map_.grad_fn is not None]
    if strides[0] >= 4:
        paths[:1] = _split_stem(model, paths[0])
    stem, *rest = paths
    groups = [LayerGroup("stem", "stem", tuple(stem))] if stem else []
    groups += [LayerGroup(f"backbone.stage{at}", "backbone", tuple(stage)) for at, stage in enumerate(rest, 1)]
    neck = LayerGroup("neck", "neck", ("decoder",))
    return (*groups, neck, LayerGroup("head", "head", ("segmentation_head",)))


def _stages(encoder: nn.Module, maps: Iterable[Tensor]) -> dict[str, int]:
    """Return for every parameter and buffer of `encoder` the position of the first map that depends on it.

    What no map depends on in the graph, such as a buffer, goes with the parameters of its module; what has no such
    neighbour, such as a stage that is not used, goes last.
    """
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    found: dict[str, int] = {}
    known: set[Any] = set()
    for at, map_ in enumerate(maps):
        for leaf in _new_leaves(map_, known):
            if id(leaf) in names:
                found.setdefault(names[id(leaf)], at)
    rest = [name for name, _ in (*encoder.named_parameters(), *encoder.named_buffers()) if name not in found]
    return found | {name: _stage_of_neighbours(name, found) for name in rest}


def _new_leaves(map_: Tensor, known: set[Any]) -> Iterator[Tensor]:
    """Yield the leaves of the graph behind `map_` that are not behind nodes in `known`, and add the nodes to it."""
    ahead: list[Any] = [map_.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in known:
            continue
        known.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        ahead += [following for following, _ in node.next_functions]


def _stage_of_neighbours(name: str, found: dict[str, int]) -> int:
    owner = name.rpartition(".")[0]
    above = owner
    while True:
        prefix = f"{above}." if above else ""
        stages = {stage for other, stage in found.items() if other.startswith(prefix)}
        if stages:
            # A module's own constants are there for all that it does; an unused module comes after it.
            return min(stages) if above == owner else max(stages)
        above = above.rpartition(".")[0]


def _largest_uniform(module: nn.Module, path: str, stages: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield path and stage of the largest modules all of whose tensors are of one stage, and of single tensors.

    path: of `module` in the model. stages: of its tensors, by name inside it.
    """
    if len(set(stages.values())) == 1:
        yield path, min(stages.values())
        return
    yield from ((f"{path}.{name}", stage) for name, stage in stages.items() if "." not in name)
    last = min(stages.values())
    for name, child in module.named_children():
        inner = {key.removeprefix(f"{name}."): stage for key, stage in stages.items() if key.startswith(f"{name}.")}
        if inner:
            yield from _largest_uniform(child, f"{path}.{name}", inner)
            last = min(inner.values())
        elif "drop" in type(child).__name__.lower():
            # Frozen means that nothing is random any more.
            yield f"{path}.{name}", last


def _split_stem(model: nn.Module, paths: Sequence[str]) -> list[list[str]]:
    """Cut the first stage before its largest part."""
    modules = dict(model.named_modules())
    sizes = [
        sum(parameter.numel() for parameter in modules[path].parameters()) if path in modules else 0 for path in paths
    ]
    cut = sizes.index(max(sizes))
    return [list(paths[:cut]), list(paths[cut:])]
