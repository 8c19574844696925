"""The graph of an export gives statistics of the model's taps, as the model computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tlvision.export import taps
from tlvision.export.taps import with_taps
from tlvision.export.torch_session import torch_sessions
from tlvision.plugin import BuildSpec, Exportable, get_plugin
from tlvision.plugin.export import DenseScores, ExportGraphs, Graph
from tlvision.plugin.protocol import Tap
from tlvision.types import ClassMap


def toy(arch: str) -> Any:
    adapter, _ = get_plugin("toy").build(BuildSpec(arch=arch, weights="none", classes=ClassMap(("a", "b"), (1, 2))))
    adapter.module.eval()
    assert isinstance(adapter, Exportable)
    return adapter


@pytest.mark.parametrize("arch", ["tiny_detector", "tiny_segmenter"])
def test_outputs_are_means_and_deviations_over_places(arch: str) -> None:
    adapter = toy(arch)
    images = torch.rand(2, 3, 64, 96)
    plain = adapter.export_graphs(images)
    graphs = with_taps(plain, adapter)
    names = [name for name in graphs.graphs["model"].outputs if name.startswith("tap/")]
    assert len(names) == taps.MAX_TAPS
    assert graphs.graphs["model"].outputs[: len(plain.graphs["model"].outputs)] == plain.graphs["model"].outputs
    found = torch_sessions(graphs)["model"].run({"images": images.numpy()})
    with torch.no_grad():
        features = adapter.features(images)
    for number, name in enumerate(names):
        values = features[name.removeprefix("tap/")].numpy()
        channels = graphs.graphs["model"].module.get_buffer(f"channels_{number}").tolist()
        assert channels == sorted(set(channels))
        assert len(channels) > 0.5 * min(values.shape[1], taps.MAX_CHANNELS)
        values = values[:, channels]
        wanted = np.concatenate([values.mean(axis=(2, 3)), values.std(axis=(2, 3))], axis=1)
        assert np.allclose(found[name], wanted, atol=1e-5), name
    assert not adapter.module._forward_hooks
    assert not any(part._forward_hooks for part in adapter.module.modules())


class Wide:
    """A model with a tap of 100 channels, one without places, and one that its graph doesn't pass."""

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"wide": nn.Conv2d(3, 100, 1), "flat": nn.Flatten(), "unused": nn.Conv2d(3, 2, 1)})
        self.taps = (Tap("flat", "flat", 3, 1), Tap("unused", "unused", 2, 1), Tap("wide", "wide", 100, 1))

    def graphs(self) -> ExportGraphs:
        parts = self.module

        class Network(nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                parts["flat"](images)
                return parts["wide"](images)

        inputs = {"images": torch.rand(2, 3, 8, 8)}
        graph = Graph(module=Network(), inputs=inputs, outputs=("scores",))
        return ExportGraphs(graphs={"model": graph}, decoder=DenseScores())


def test_taps_that_the_graph_does_not_pass_are_left_out_and_channels_are_limited() -> None:
    wide: Any = Wide()
    graphs = with_taps(wide.graphs(), wide)
    assert graphs.graphs["model"].outputs == ("scores", "tap/wide")
    images = torch.rand(2, 3, 8, 8)
    found = torch_sessions(graphs)["model"].run({"images": images.numpy()})
    assert found["tap/wide"].shape == (2, 2 * taps.MAX_CHANNELS)
    with torch.no_grad():
        means = wide.module["wide"](images).mean(dim=(2, 3)).numpy()
    assert np.allclose(found["tap/wide"][:, [0, 63]], means[:, [0, 99]], atol=1e-5)


def test_a_model_without_taps_keeps_its_graph() -> None:
    wide: Any = Wide()
    wide.taps = ()
    plain = wide.graphs()
    assert with_taps(plain, wide) is plain


@pytest.mark.slow
@pytest.mark.openvino
def test_a_session_computes_taps_only_if_they_are_asked_for(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from tlvision.runtime.sessions import open_session

    nodes = [
        onnx.helper.make_node("Abs", ["images"], ["scores"]),
        onnx.helper.make_node("Neg", ["images"], ["tap/a"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2])
        for name in ("images", "scores", "tap/a")
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "model.onnx")
    files = {"onnx": tmp_path / "model.onnx"}
    openvino = pytest.importorskip("openvino")
    files["openvino"] = tmp_path / "model.xml"
    openvino.save_model(openvino.Core().read_model(files["onnx"]), files["openvino"], compress_to_fp16=False)
    given = {"images": np.array([[1.0, -2.0]], np.float32)}
    for graph_format, path in files.items():
        session = open_session(path, graph_format, 1)
        assert set(session.run(given)) == {"scores"}
        found = session.run(given, taps=True)
        assert found["scores"].tolist() == [[1.0, 2.0]]
        assert found["tap/a"].tolist() == [[-1.0, 2.0]]
        assert set(session.run(given)) == {"scores"}
