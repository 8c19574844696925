"""Attention maps of transformers: where the queries look that a score depends on.

The last attention layer over places of the image is taken, the mean over its heads. Queries are weighted by how much
the score depends on their result, so that a detection is explained by its own query. Only layers of
`torch.nn.MultiheadAttention` give their weights away; deformable attention has none for every place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tlvision.plugin import record

if TYPE_CHECKING:
    from tlvision.plugin import Adapter

_STRIDES = (1, 2, 4, 8, 16, 32, 64, 128)


def attention_layers(adapter: Adapter) -> list[str]:
    """Return the paths of the layers whose attention can be read."""
    return [name for name, part in adapter.module.named_modules() if isinstance(part, nn.MultiheadAttention)]


def attention_map(adapter: Adapter, inputs: Tensor, score_of: Callable[[Tensor], Tensor | None]) -> Tensor | None:
    """Return (h, w) float32, at least 0; None if there is no score, or no attention over places that it depends on.

    inputs: (1, 3, H, W), which gets a gradient. score_of: the score of the subject for such inputs.
    """
    paths = attention_layers(adapter)
    with torch.enable_grad(), ExitStack() as stack:
        outputs = [stack.enter_context(record(adapter.module, path)) for path in paths]
        score = score_of(inputs)
    if score is None:
        return None
    for path, calls in reversed([*zip(paths, outputs, strict=True)]):
        layer = adapter.module.get_submodule(path)
        for result, weights in reversed(calls):
            grid = None if weights is None else _grid(weights.shape[-1], inputs.shape[2:])
            if grid is None or not result.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(score, [result], allow_unused=True, retain_graph=True)
            if gradient is not None and bool(gradient.any()):
                return _weighted(gradient, weights, layer).reshape(grid)
    return None


def _weighted(gradient: Tensor, weights: Tensor, layer: Any) -> Tensor:
    """Return (S,), the attention of the queries, each weighted by the size of its gradient."""
    importance = gradient.detach().abs().sum(dim=-1)  # (N, L), or (L, N)
    importance = importance[0] if layer.batch_first else importance[:, 0]
    found: Tensor = (importance[:, None] * weights.detach()[0].float()).sum(dim=0) / importance.sum()
    return found


def _grid(places: int, size: Sequence[int]) -> tuple[int, int] | None:
    """Return height and width of a map of so many cells that covers an input of `size` at some stride, or None.

    >>> _grid(300, (480, 640)), _grid(7, (480, 640))
    ((15, 20), None)
    """
    for stride in _STRIDES:
        height, width = -(-size[0] // stride), -(-size[1] // stride)
        if height * width == places:
            return height, width
    return None
