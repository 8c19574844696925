"""Add statistics of a model's taps to its graph, so that `tlvision monitor` can compare inputs by their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tlvision.plugin import Adapter, Tap
from tlvision.plugin.export import TAP_PREFIX, ExportGraphs, Graph
from tlvision.plugin.taps import capture

MAX_TAPS, MAX_CHANNELS = 3, 64
"""Taps of a graph, and channels of a tap; evenly spread if the model has more, so that records of images stay small."""


def with_taps(graphs: ExportGraphs, adapter: Adapter) -> ExportGraphs:
    """Return the graphs with one more output of the graph "model" for each of up to `MAX_TAPS` taps.

    The output `tap/<name>` is (N, 2 * C) float32: means over places of up to `MAX_CHANNELS` channels, then their
    standard deviations. A tap that the graph doesn't pass is left out.
    """
    graph = graphs.graphs["model"]
    taps = _chosen(graph, adapter)
    if not taps:
        return graphs
    module = _WithTaps(graph.module, adapter.module, taps).eval()
    names = tuple(f"{TAP_PREFIX}{tap.name}" for tap, _ in taps)
    added = replace(graph, module=module, outputs=(*graph.outputs, *names))
    return replace(graphs, graphs={**graphs.graphs, "model": added})


def _chosen(graph: Graph, adapter: Adapter) -> list[tuple[Tap, list[int]]]:
    """Return the finest, the coarsest and one between of the taps that the graph passes, with channels of each.

    Channels that are 0 for images of noise are left out: a pruned one says nothing, and has to stay if it is asked for.
    """
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(each.shape, generator=generator).to(each) for each in graph.inputs.values()]
    with torch.no_grad(), capture(adapter.module, adapter.taps) as features:
        graph.module(*noise)
    passed = [tap for tap in adapter.taps if tap.name in features and features[tap.name].ndim == 4]
    passed.sort(key=lambda tap: tap.stride)
    chosen = []
    for tap in (passed[index] for index in _spread(len(passed), MAX_TAPS)):
        alive = features[tap.name].abs().amax(dim=(0, 2, 3)).nonzero().flatten().tolist()
        channels = alive or list(range(features[tap.name].shape[1]))
        chosen.append((tap, [channels[index] for index in _spread(len(channels), MAX_CHANNELS)]))
    return chosen


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers from 0 to count - 1, evenly spread, with the first and the last.

    >>> _spread(7, 3), _spread(2, 3)
    ([0, 3, 6], [0, 1])
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


class _WithTaps(nn.Module):
    """A graph that also returns statistics of what its taps give.

    module: the graph. whole: the adapter's module, in which the taps lie; a tuple keeps it from being a second child.
    """

    def __init__(self, module: nn.Module, whole: nn.Module, taps: Sequence[tuple[Tap, list[int]]]) -> None:
        super().__init__()
        self.module = module
        self._whole, self._taps = (whole,), tuple(tap for tap, _ in taps)
        for number, (_, channels) in enumerate(taps):
            self.register_buffer(f"channels_{number}", torch.tensor(channels), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the graph, then those of the taps."""
        with capture(self._whole[0], self._taps) as features:
            found = self.module(images)
        outputs = found if isinstance(found, tuple) else (found,)
        chosen = (self.get_buffer(f"channels_{number}") for number in range(len(self._taps)))
        return (
            *outputs,
            *(_statistics(features[tap.name], each) for tap, each in zip(self._taps, chosen, strict=True)),
        )


def _statistics(values: Tensor, channels: Tensor) -> Tensor:
    """Return means and standard deviations of some channels over places, (N, C, h, w) and (c,) int64 -> (N, 2 * c)."""
    chosen = values.index_select(1, channels).float()
    means = chosen.mean(dim=(2, 3), keepdim=True)
    squares = (chosen - means).square().mean(dim=(2, 3))
    return torch.cat([means.flatten(1), squares.sqrt()], dim=1)
