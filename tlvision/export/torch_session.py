"""Run the graphs of an export in torch, as `tlvision.runtime` runs those of a bundle: to find a fault before a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tlvision.plugin.export import ExportGraphs, Graph, Pooling, TwoStage
from tlvision.runtime.sessions import Session


class TorchSession:
    """One graph in torch.

    pooling: of the regions that the graph takes; None for a graph that takes images.
    """

    def __init__(self, graph: Graph, pooling: Pooling | None = None) -> None:
        self._graph, self._pooling = graph, pooling

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Any], *, taps: bool = False) -> dict[str, Any]:
        """Return all outputs by name, numpy, for inputs by name, with or without `taps`."""
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        given = [*tensors.values()] if self._pooling is None else [_pool(tensors, self._pooling)]
        found = self._graph.module(*given)
        values = found if isinstance(found, tuple) else (found,)
        return {name: value.numpy() for name, value in zip(self._graph.outputs, values, strict=True)}


def torch_sessions(graphs: ExportGraphs) -> dict[str, Session]:
    """Return a session for every graph."""
    return {name: TorchSession(graph, pooling_of(graphs, name)) for name, graph in graphs.graphs.items()}


def pooling_of(graphs: ExportGraphs, name: str) -> Pooling | None:
    """Return how the regions that a graph takes are pooled; None for a graph that takes images."""
    if name == "model" or not isinstance(graphs.decoder, TwoStage):
        return None
    return graphs.decoder.pooling if name == "head" else graphs.decoder.mask_pooling


def _pool(inputs: Mapping[str, torch.Tensor], pooling: Pooling) -> torch.Tensor:
    from torchvision.ops import roi_align

    rows = torch.cat([inputs["images"][:, None].float(), inputs["places"]], dim=1)  # (K, 5)
    pooled: torch.Tensor = roi_align(
        inputs["features"],
        rows,
        pooling.size,
        spatial_scale=1.0,
        sampling_ratio=pooling.sampling_ratio or -1,
        aligned=pooling.aligned,
    )
    return pooled
