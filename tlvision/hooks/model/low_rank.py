"""Layers whose weight is the pretrained one plus a trained update of low rank."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn


class LowRankWeight(nn.Module):
    """The part of a layer that computes one of its weights, (out, …), as `weight + scale * up @ down`.

    The pretrained parameter keeps its name and its place among the parameters. Reading the attribute, for example
    `layer.weight`, gives the sum, so that code that reads it instead of calling the layer (attention, fusing with a
    norm) has the update as well. New parameters: `lora_down`, (rank, n), and `lora_up`, (out, rank); n is the number of
    elements of a row.
    """

    lora_name: str
    lora_down: nn.Parameter
    lora_up: nn.Parameter
    lora_scale: float

    def lora_sum(self) -> Tensor:
        """Return the weight that the layer computes with, in the shape of the pretrained one."""
        base = _parameter(self, self.lora_name)
        return base + self.lora_scale * (self.lora_up @ self.lora_down).view(base.shape)


@cache
def _low_rank(kind: type[nn.Module], name: str) -> type[nn.Module]:
    members = {"lora_name": name, name: property(LowRankWeight.lora_sum)}
    return type(f"LowRank{kind.__name__}", (LowRankWeight, kind), members)


def _parameter(layer: nn.Module, name: str) -> nn.Parameter:
    found = layer._parameters[name]
    assert found is not None
    return found


def weight_name(layer: nn.Module) -> str | None:
    """Return the name of the parameter of `layer` that can have an update; None if there is none.

    >>> weight_name(nn.Conv2d(3, 4, 1)), weight_name(nn.MultiheadAttention(8, 2)), weight_name(nn.LayerNorm(4))
    ('weight', 'in_proj_weight', None)
    """
    name = "in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else "weight"
    possible = isinstance(layer, nn.Linear | nn.Conv2d | nn.MultiheadAttention) and not isinstance(layer, LowRankWeight)
    return name if possible and layer._parameters.get(name) is not None else None


def num_factors(weight: Tensor, rank: int) -> int:
    """Return the number of elements in both factors of an update of `weight`.

    >>> num_factors(torch.zeros(16, 8, 3, 3), 4)
    352
    """
    return rank * (len(weight) + weight[0].numel())


def add_low_rank(layer: nn.Module, rank: int, scale: float) -> None:
    """Give the weight of `layer` an update of `rank` in place, which is 0 at first.

    layer: one that `weight_name` knows. It stays the same object: only its class changes.
    scale: what the product of the factors is multiplied by.

    Draws `lora_down` from the global generator (Kaiming uniform, as the layer's own weight); `lora_up` is 0.

    >>> layer = nn.Linear(4, 6)
    >>> before = layer.weight
    >>> add_low_rank(layer, rank=2, scale=1.0)
    >>> torch.equal(layer.weight, before), [name for name, _ in layer.named_parameters()]
    (True, ['weight', 'bias', 'lora_down', 'lora_up'])
    """
    name = weight_name(layer)
    assert name is not None
    weight = _parameter(layer, name).detach()
    down = weight.new_empty(rank, weight[0].numel())
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    layer.lora_down = nn.Parameter(down)
    layer.lora_up = nn.Parameter(weight.new_zeros(len(weight), rank))
    layer.lora_scale = scale  # type: ignore[assignment]  # a number: nn.Module declares tensors and modules
    layer.__class__ = _low_rank(type(layer), name)  # type: ignore[arg-type]  # classes can be hashed


def merge_low_rank(layer: nn.Module) -> None:
    """Put the update into the pretrained weight in place, and make `layer` what it was before `add_low_rank`.

    >>> layer = nn.Linear(4, 6)
    >>> add_low_rank(layer, rank=2, scale=1.0)
    >>> _ = nn.init.normal_(layer.lora_up)
    >>> before = layer.weight
    >>> merge_low_rank(layer)
    >>> torch.equal(layer.weight, before), type(layer) is nn.Linear
    (True, True)
    """
    assert isinstance(layer, LowRankWeight)
    with torch.no_grad():
        _parameter(layer, layer.lora_name).copy_(layer.lora_sum())
    layer.__class__ = type(layer).__mro__[2]
    del layer.lora_down, layer.lora_up, layer.lora_scale
