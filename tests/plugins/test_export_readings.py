"""What is read from the graphs of a model is what it predicts; families that have no graphs say why."""

from __future__ import annotations

import pytest
import torch

from exported import OPENMMLAB, TRANSFORMERS, export_graphs, varied_adapter
from tlvision.export.compare import Tally
from tlvision.export.torch_session import torch_sessions
from tlvision.plugin import get_plugin
from tlvision.plugin.export import Candidates
from tlvision.plugin.protocol import BuildSpec, PredictSpec
from tlvision.runtime.candidates import read_candidates
from tlvision.types import ClassMap, InputError


@pytest.mark.parametrize(
    ("plugin", "arch"),
    [
        ("torchvision", "ssdlite320_mobilenet_v3_large"),
        ("torchvision", "fcos_resnet18_fpn"),
        ("yolo", "yolov10n"),
        ("yolo", "yolo26n"),
        ("yolo", "yolo26n-seg"),
        ("mmdet", "atss_r18_fpn_8xb8-amp-lsj-200e_coco"),
        ("mmdet", "yolox_nano_8xb8-300e_coco"),
        ("mmdet", "gfl_r50_fpn_1x_coco"),
        ("transformers", str(TRANSFORMERS / "detr.json")),
        ("transformers", str(TRANSFORMERS / "conditional_detr.json")),
        ("transformers", str(TRANSFORMERS / "rt_detr_v2.json")),
    ],
)
@pytest.mark.slow
def test_objects_are_read_as_predicted(plugin: str, arch: str) -> None:
    adapter, case = varied_adapter(plugin, arch, one_to_one=plugin == "yolo")
    images, _ = case.batch(adapter, "square")
    graphs = export_graphs(adapter, images)
    assert isinstance(graphs.decoder, Candidates)
    outputs = torch_sessions(graphs)["model"].run({"images": images.numpy()})
    size = (images.shape[2], images.shape[3])
    tally = Tally(0.0)
    for wanted, found in zip(adapter.predict(images), read_candidates(outputs, size, graphs.decoder, 0.0), strict=True):
        assert len(wanted) > 9
        tally.add(wanted, found)
    assert tally.share is not None
    assert tally.share > 0.97


def test_a_one_to_one_head_suppresses_nothing() -> None:
    adapter, case = varied_adapter("yolo", "yolo26n", side=64, one_to_one=True)
    images, _ = case.batch(adapter, "square")
    graphs = export_graphs(adapter, images)
    assert isinstance(graphs.decoder, Candidates)
    assert (graphs.decoder.nms_iou, graphs.decoder.most) == (None, 300)
    with torch.no_grad():
        graphs.graphs["model"].module(images)
    assert "postprocess" not in vars(adapter.module.model[-1])  # the head is as it was


@pytest.mark.parametrize(
    ("plugin", "arch", "reason"),
    [
        ("transformers", f"{TRANSFORMERS / 'mask2former.json'}#instance", "its scores depend on its masks"),
        ("mmdet", str(OPENMMLAB / "dino_tiny.py"), r"export of 'DINO' with 'DINOHead' is not written; the exported"),
        ("mmdet", str(OPENMMLAB / "cascade-rcnn_tiny.py"), r"\(CascadeRCNN\) is not written; only Faster and Mask"),
    ],
)
def test_a_model_without_graphs_says_why(plugin: str, arch: str, reason: str) -> None:
    spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(("a", "b")), predict=PredictSpec())
    adapter, _ = get_plugin(plugin).build(spec)
    with pytest.raises(InputError, match=reason):
        adapter.export_graphs(torch.zeros(1, 3, 64, 64))  # type: ignore[attr-defined]
