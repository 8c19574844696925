"""Helpers of several checks: copies of a model's tensors, dropout switched off, sums of losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin import Adapter
    from tlvision.types import Target


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of every parameter and buffer, those that are not saved included."""
    yield from chain(module.named_parameters(), module.named_buffers())


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers by name."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(module)}


@torch.no_grad()
def restore(module: nn.Module, copies: Mapping[str, Tensor]) -> None:
    """Write what `snapshot` returned back into the module, in place."""
    for name, tensor in tensors_of(module):
        tensor.copy_(copies[name])


def changed(module: nn.Module, copies: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the parameters and buffers that differ from their copies in any bit."""
    return [name for name, tensor in tensors_of(module) if not same(tensor, copies[name])]


def same(a: Any, b: Any) -> bool:
    """Return whether two values (tensors, or lists, tuples and dicts of them) are equal bit for bit; nan equals nan."""
    first, second = list(flat_tensors(a)), list(flat_tensors(b))
    return len(first) == len(second) and all(
        x.shape == y.shape and x.dtype == y.dtype and bool(((x == y) | (x.isnan() & y.isnan())).all())
        for x, y in zip(first, second, strict=True)
    )


def flat_tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a nest of lists, tuples, dicts and objects such as `Prediction`, without their graph."""
    if isinstance(value, torch.Tensor):
        yield value.detach()
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(flat_tensors(item) for item in value.values())
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(flat_tensors(item) for item in value)
    elif hasattr(type(value), "__dataclass_fields__"):
        names = type(value).__dataclass_fields__
        yield from chain.from_iterable(flat_tensors(getattr(value, name)) for name in names)


def quiet_dropout(module: nn.Module) -> None:
    """Put everything that drops at random (dropout, drop-path, drop-block) into eval mode."""
    for child in module.modules():
        if "drop" in type(child).__name__.lower():
            child.eval()


def total_loss(adapter: Adapter, images: Tensor, targets: Sequence[Target], seed: int = 0) -> Tensor:
    """Return the sum of the adapter's losses, a 0-d float32 tensor, with torch's generator seeded before."""
    torch.manual_seed(seed)
    return total(adapter.loss(images, targets).values())


def total(losses: Iterable[Tensor]) -> Tensor:
    """Return the sum of losses as the loop forms it: each in float32."""
    return torch.stack([loss.float() for loss in losses]).sum()
