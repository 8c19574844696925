"""Write tensor graphs as ONNX files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.plugin.export import Graph, Pooling
from tlvision.types import InputError

if TYPE_CHECKING:
    pass

OPSET = 20


def write_graph(
    graph: Graph, path: Path, *, fixed: tuple[int, int] | None = None, pooling: Pooling | None = None
) -> None:
    """Write a graph to `path`, with its free axes.

    fixed:   height and width of the only images that it takes, one at a time; None keeps the axes free.
    pooling: of the regions that the graph takes; it then takes `features` (N, F, h, w), `places` (K, 4) in cells of
             the level, and `images` (K,) int64 instead of `regions`.

    Raises InputError if torch cannot follow the graph.
    """
    import torch

    free = [_free(name, graph) for name in graph.inputs] if fixed is None else None
    examples = [each if fixed is None else each.new_zeros((1, 3, *fixed)) for each in graph.inputs.values()]
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                graph.module,
                tuple(examples),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=free,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # of many kinds: whatever torch.export meets in a model
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"export: torch cannot write this model as an ONNX graph: {reason}") from error
        program.save(path)
    if pooling is not None:
        _pool_regions(path, pooling)


def _free(name: str, graph: Graph) -> dict[int, Any]:
    from torch.export import Dim

    axes: Mapping[int, str] = {0: "batch", **graph.free.get(name, {})}
    return dict.fromkeys(axes, Dim.DYNAMIC)


def _pool_regions(path: Path, pooling: Pooling) -> None:
    """Put RoIAlign before a graph that takes pooled regions."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    (regions,) = model.graph.input
    channels = regions.type.tensor_type.shape.dim[1].dim_value
    node = helper.make_node(
        "RoiAlign",
        ["features", "places", "images"],
        [regions.name],
        output_height=pooling.size,
        output_width=pooling.size,
        sampling_ratio=pooling.sampling_ratio,
        spatial_scale=1.0,
        mode="avg",
        coordinate_transformation_mode="half_pixel" if pooling.aligned else "output_half_pixel",
    )
    model.graph.node.insert(0, node)
    model.graph.input.remove(regions)
    model.graph.input.extend(
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", channels, "height", "width"]),
            helper.make_tensor_value_info("places", TensorProto.FLOAT, ["regions", 4]),
            helper.make_tensor_value_info("images", TensorProto.INT64, ["regions"]),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own progress lines and warnings from the user; what it cannot do is an exception."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
