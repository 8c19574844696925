"""Write the graphs of a model in the format of a library that runs them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tlvision.export.graphs import write_graph
from tlvision.export.torch_session import pooling_of
from tlvision.plugin.export import ExportGraphs
from tlvision.terminal import console
from tlvision.types import InputError, counted

GRAPH_FORMATS = ("onnx", "openvino")
_NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


def write_graphs(
    graphs: ExportGraphs, folder: Path, graph_format: str, *, fixed: tuple[int, int] | None
) -> dict[str, str]:
    """Write every graph into `folder`, without channels that are always 0, and return the name of its file for each.

    fixed: height and width of the only network input that the graph "model" takes, one at a time; None leaves batch,
           height and width free.

    Raises InputError if a library is missing, or torch cannot follow a graph.
    """
    for package in _NEEDS[graph_format]:
        if find_spec(package) is None:
            extra = "openvino" if package == "openvino" else "export"
            raise InputError(f'export: the package {package} is not installed. pip install "tlvision[{extra}]"')
    from tlvision.export.shrink import leave_out_zero_channels

    files, removed = {}, 0
    for name, graph in graphs.graphs.items():
        path = folder / f"{name}.onnx"
        write_graph(graph, path, fixed=fixed if name == "model" else None, pooling=pooling_of(graphs, name))
        removed += leave_out_zero_channels(path)
        files[name] = (_to_openvino(path) if graph_format == "openvino" else path).name
    if removed:
        console().print(f"{counted(removed, 'channel')} of zeros left out of the graphs", soft_wrap=True)
    return files


def _to_openvino(path: Path) -> Path:
    """Write a graph in OpenVINO's format in the place of its ONNX file, in full precision."""
    import openvino

    target = path.with_suffix(".xml")
    # Not convert_model, which reports its use to the library's makers.
    openvino.save_model(openvino.Core().read_model(path), target, compress_to_fp16=False)
    path.unlink()
    return target
