"""The graphs of every kind of model in ONNX give what they give in torch, for other batches and sizes too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exported import TRANSFORMERS, export_graphs, varied_adapter
from tlvision.export.compare import Tally
from tlvision.export.formats import write_graphs
from tlvision.export.torch_session import torch_sessions
from tlvision.plugin.export import ExportGraphs
from tlvision.runtime.candidates import read_candidates
from tlvision.runtime.sessions import open_session
from tlvision.types import Prediction

# The first of each kind of graph; the others, which take minutes each, are left to the night.
FIRST = {
    "transformers": ("conditional_detr", "segformer"),
    "torchvision": ("retinanet_resnet18_fpn", "ssdlite320_mobilenet_v3_large"),
    "yolo": ("yolo26n",),
    "mmdet": ("yolox_tiny_8xb8-300e_coco", "atss_r18_fpn_8xb8-amp-lsj-200e_coco"),
}
NIGHTLY = {
    "transformers": (
        *("rt_detr_v2", "rt_detr", "d_fine", "deimv2", "detr", "dab_detr", "deformable_detr"),
        *("deformable_detr_two_stage", "rf_detr", "lw_detr", "yolos", "upernet", "dpt", "mask2former", "maskformer"),
        *("eomt", "eomt_dinov3"),
    ),
    "torchvision": ("fcos_resnet18_fpn",),
    "mmdet": ("retinanet_r18_fpn_1x_coco", "rtmdet_tiny_8xb32-300e_coco"),
}


def parameters() -> list[Any]:
    found = [(plugin, arch, [pytest.mark.slow]) for plugin, archs in FIRST.items() for arch in archs]
    marks = [pytest.mark.slow, pytest.mark.nightly]
    found += [(plugin, arch, marks) for plugin, archs in NIGHTLY.items() for arch in archs]
    return [pytest.param(plugin, arch, marks=marks, id=f"{plugin}-{arch}") for plugin, arch, marks in found]


def graphs_of(plugin: str, arch: str) -> tuple[ExportGraphs, list[torch.Tensor]]:
    """Return graphs, and images for them: three of the example's size, and one of another if that is free."""
    name = str(TRANSFORMERS / f"{arch}.json") if plugin == "transformers" else arch
    adapter, case = varied_adapter(plugin, name, one_to_one=plugin == "yolo")
    images, _ = case.batch(adapter, "square")
    graphs = export_graphs(adapter, images)
    batches = [torch.cat([images, images[:1].flip(3)])]
    if graphs.graphs["model"].free:
        batches.append(case.batch(adapter, "wide")[0][:1])
    return graphs, batches


def compare(graphs: ExportGraphs, found: dict[str, Any], wanted: dict[str, Any], size: tuple[int, int]) -> None:
    """Compare the outputs, and what is read from them."""
    if graphs.graphs["model"].ordered:
        for name, values in wanted.items():
            assert values.shape == found[name].shape
            # Boxes of random weights may be far larger than the image; differences are relative to their largest side.
            scale = np.abs(values).max(axis=-1, keepdims=True) if name == "boxes" else max(1.0, np.abs(values).max())
            limit = 1e-3 * scale + (0.1 if name == "boxes" else 0.0)
            assert (np.abs(values - found[name]) <= limit).all(), name
    if graphs.decoder.kind != "candidates":
        return
    tally = Tally(0.0)
    pairs = zip(*(read_candidates(each, size, graphs.decoder, 0.0) for each in (wanted, found)), strict=True)
    for expected, mine in pairs:
        assert len(expected) > 3
        tally.add(_as_tensors(expected), mine)
    assert tally.share is not None
    assert tally.share > 0.95


def _as_tensors(found: Prediction) -> Prediction:
    parts = {name: torch.from_numpy(getattr(found, name)) for name in ("boxes", "scores", "labels")}
    return Prediction(**parts)


def check(plugin: str, arch: str, folder: Path, graph_format: str) -> None:
    graphs, batches = graphs_of(plugin, arch)
    files = write_graphs(graphs, folder, graph_format, fixed=None)
    session = open_session(folder / files["model"], graph_format, 1)
    reference = torch_sessions(graphs)["model"]
    for images in batches:
        inputs = {"images": images.numpy()}
        compare(graphs, session.run(inputs), reference.run(inputs), (images.shape[2], images.shape[3]))


@pytest.mark.parametrize(("plugin", "arch"), parameters())
def test_a_graph_in_onnx_gives_what_it_gives_in_torch(plugin: str, arch: str, tmp_path: Path) -> None:
    check(plugin, arch, tmp_path, "onnx")


@pytest.mark.slow
@pytest.mark.openvino
@pytest.mark.parametrize(
    ("plugin", "arch"),
    [("torchvision", "retinanet_resnet18_fpn"), ("mmdet", "atss_r18_fpn_8xb8-amp-lsj-200e_coco"), ("yolo", "yolo26n")],
)
def test_a_graph_in_openvino_gives_what_it_gives_in_torch(plugin: str, arch: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    check(plugin, arch, tmp_path, "openvino")
