"""Bundles whose graphs are made by hand, in milliseconds and without torch: what they find is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tlvision.plugin.export import Candidates, DenseScores
from tlvision.runtime.bundle import Bundle, write_bundle
from tlvision.types import ClassMap, ClassThresholds, InputSpec

CLASSES = ClassMap(("red", "green", "blue"), (7, 0, 90))
SIZE = 32
"""Long side of the network input."""
_FLOAT = TensorProto.FLOAT
_SPEC = InputSpec(value_range=1.0, multiple_of=8)


def write_detector(folder: Path, *, masks: bool = False) -> Path:
    """Write a bundle that finds one box, 4 pixels from the edges of the input, with the mean of a colour as score.

    masks: whether each object has a mask: the pixels that are brighter than half in its colour, within the box.
    """
    box = np.array([[[4.0, 4.0, 20.0, 12.0]]], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Reshape", ["mean", "scores_shape"], ["scores"]),
        helper.make_node("ReduceSum", ["scores", "class_axis"], ["sum"]),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "box"], ["boxes"]),
    ]
    constants = {
        "scores_shape": np.array([0, 1, 3], np.int64),
        "class_axis": np.array([2], np.int64),
        "zero": np.zeros(1, np.float32),
        "box": box,
    }
    outputs = {"boxes": ["n", 1, 4], "scores": ["n", 1, 3]}
    if masks:
        nodes += [
            helper.make_node("Sub", ["images", "half"], ["prototypes"]),
            helper.make_node("Mul", ["scores", "zero"], ["no_weight"]),
            helper.make_node("Add", ["no_weight", "weights"], ["coefficients"]),
        ]
        constants |= {"half": np.full(1, 0.5, np.float32), "weights": np.array([[[1.0, 0.0, 0.0]]], np.float32)}
        outputs |= {"prototypes": ["n", 3, "h", "w"], "coefficients": ["n", 1, 3]}
    _write_graph(folder, nodes, constants, outputs)
    decoder = Candidates(score_floor=0.001, nms_iou=0.5, most=10, masks=masks)
    return _write(folder, "instance" if masks else "detect", decoder)


def write_segmenter(folder: Path) -> Path:
    """Write a bundle whose class at a pixel is its strongest colour."""
    nodes = [helper.make_node("Identity", ["images"], ["scores"])]
    _write_graph(folder, nodes, {}, {"scores": ["n", 3, "h", "w"]})
    return _write(folder, "semantic", DenseScores())


def _write(folder: Path, task: str, decoder: Candidates | DenseScores) -> Path:
    bundle = Bundle(
        task=task,
        name="colours",
        classes=CLASSES,
        input_spec=_SPEC,
        image_size=SIZE,
        decoder=decoder,
        graphs={"model": "model.onnx"},
        graph_format="onnx",
        thresholds=ClassThresholds(0.4),
    )
    write_bundle(folder, bundle)
    return folder


def _write_graph(
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    outputs: dict[str, list[str | int]],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", _FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, _FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
