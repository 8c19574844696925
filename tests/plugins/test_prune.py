"""Pruning on every model family that can be exported: the graphs lose the channels, and give the same results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from families import build_family
from tlvision.hooks.setup.prune import Prune
from tlvision.plugin.export import Exportable

EXPORTED = (
    "mmdet one-stage",
    "mmdet two-stage",
    "mmseg",
    "smp",
    "torchvision one-stage",
    "torchvision two-stage",
    "toy",
    "toy semantic",
    "yolo",
    "yolo instance",
)


@pytest.mark.slow
@pytest.mark.parametrize("family", EXPORTED)
def test_a_pruned_model_is_exported_without_its_pruned_channels(family: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    from tlvision.export.graphs import write_graph
    from tlvision.export.shrink import leave_out_zero_channels

    adapter = build_family(family)
    assert isinstance(adapter, Exportable)
    adapter.module.eval()
    images = torch.randn(2, 3, 128, 128)
    hook = Prune(ratio=0.4, multiple=4)
    hook.prepare(adapter)
    removed = 0
    for name, graph in adapter.export_graphs(images).graphs.items():
        path = tmp_path / f"{name}.onnx"
        write_graph(graph, path)
        removed += leave_out_zero_channels(path)
        inputs = {key: torch.randn(each.shape) for key, each in graph.inputs.items()}
        with torch.no_grad():
            wanted = graph.module(*inputs.values())
        session = runtime.InferenceSession(str(path))
        found = session.run(None, {key: each.numpy() for key, each in inputs.items()})
        for one, other in zip(wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True):
            assert torch.allclose(one, torch.from_numpy(other), atol=1e-3 * float(one.abs().max()))
    pruned = int(hook._sentence.split()[1].replace(",", ""))
    assert removed == pruned
