"""Which tensors of a model have changed, compared number by number: independent of the proof in the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters and buffers by name, those outside the state dict as well."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def moved(before: Mapping[str, Tensor], module: nn.Module, prefixes: tuple[str, ...] = ("",)) -> set[str]:
    """Return the names below `prefixes` whose tensors in `module` differ from `before` in any bit."""
    now = copied(module)
    assert now.keys() == before.keys()
    names = [name for name in now if name.startswith(prefixes)]
    assert names, prefixes
    return {name for name in names if not torch.equal(_bits(now[name]), _bits(before[name]))}


def table(optimizer: Any, module: nn.Module) -> dict[str, tuple[float, float]]:
    """Return `{parameter name: (learning rate, weight decay)}` of an optimizer, each parameter once."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    return found


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
