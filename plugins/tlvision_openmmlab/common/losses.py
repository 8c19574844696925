"""Turn the results of an OpenMMLab model's `loss` into those of `tlvision.plugin.Adapter.loss`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def named_losses(found: Mapping[str, Tensor | Sequence[Tensor]], head: nn.Module | None = None) -> dict[str, Tensor]:
    """Return those of upstream's results whose name has "loss" in it, each as one 0-d tensor of the graph.

    found: upstream's results; several of one name (levels, stages) are summed, and what has elements is averaged.
    head:  module whose parameters make the graph if upstream gives plain zeros only; None leaves them plain.
    """
    losses = {name: _total(value) for name, value in found.items() if "loss" in name}
    graph = [loss for loss in losses.values() if loss.requires_grad]
    if not graph and head is not None:
        graph = [parameter.sum() for parameter in head.parameters()]
    zero = 0 * sum(each.float() for each in graph)
    return {name: loss if loss.requires_grad else loss + zero for name, loss in losses.items()}


def _total(value: Tensor | Sequence[Tensor]) -> Tensor:
    if isinstance(value, Tensor):  # upstream averages what it gives one by one
        return value.mean() if value.numel() else value.sum()
    return torch.stack([_total(each) for each in value]).sum()
