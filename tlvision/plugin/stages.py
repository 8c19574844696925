"""Stages of an encoder, found from the graph of one forward pass, for layer groups of models of any build.

A stage is what its map depends on and the map before it does not. Every tensor is in exactly one stage, and no stage
reads what a later one gives. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def find_stages(encoder: nn.Module, path: str, maps: Iterable[Tensor]) -> list[list[str]]:
    """Return the dotted names of modules and tensors of each stage, from input to output.

    encoder: the module that has given `maps`.
    path:    its dotted name in the model; every returned name begins with it.
    maps:    its outputs from fine to coarse, with their graph. A map without a graph (the image) adds no stage.
    """
    stages = _stage_of_tensors(encoder, maps)
    order = sorted(set(stages.values()))
    paths: list[list[str]] = [[] for _ in order]
    for name, stage in largest_uniform(encoder, path, stages):
        paths[order.index(stage)].append(name)
    return paths


def split_stem(model: nn.Module, paths: Sequence[str]) -> list[list[str]]:
    """Cut a first stage of `model` before its largest module: the stem, and the rest of the stage."""
    modules = dict(model.named_modules())
    sizes = [
        sum(parameter.numel() for parameter in modules[path].parameters()) if path in modules else 0 for path in paths
    ]
    cut = sizes.index(max(sizes))
    return [list(paths[:cut]), list(paths[cut:])]


def _stage_of_tensors(encoder: nn.Module, maps: Iterable[Tensor]) -> dict[str, int]:
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


def largest_uniform(module: nn.Module, path: str, stages: dict[str, int]) -> Iterator[tuple[str, int]]:
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
            yield from largest_uniform(child, f"{path}.{name}", inner)
            last = min(inner.values())
        elif "drop" in type(child).__name__.lower():
            # Frozen means that nothing is random any more.
            yield f"{path}.{name}", last
