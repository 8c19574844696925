"""Run graphs with ONNX Runtime or OpenVINO, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tlvision.types import InputError, RunError

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Suffix of a graph's file by format."""


class Session(Protocol):
    """One graph, ready to run."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs by name, numpy, for inputs by name."""
        ...


def open_session(path: Path, graph_format: str, threads: int | None) -> Session:
    """Return a session for a graph's file.

    graph_format: "onnx" or "openvino". threads: of one call; None lets the library decide.

    Raises InputError if the library is not installed or cannot read the file.
    """
    return open_openvino(path, threads) if graph_format == "openvino" else OnnxSession(path, threads)


class OnnxSession:
    """A graph in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise InputError(
                'runtime: onnxruntime is not installed, which runs graphs in ONNX. pip install "tlvision[runtime]"'
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes are made at run time
            raise InputError(f"runtime: onnxruntime cannot read '{path}': {_first_line(error)}") from error
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs by name."""
        try:
            return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))
        except Exception as error:  # its classes are made at run time
            raise RunError(f"runtime: onnxruntime failed on the graph: {_first_line(error)}") from error


def open_openvino(path: Path, threads: int | None) -> OpenVinoSession:
    """Return a session for a graph in OpenVINO's format, on the CPU; see `open_session`."""
    try:
        import openvino
    except ImportError:
        raise InputError(
            'runtime: openvino is not installed, in whose format the bundle is. pip install "tlvision[openvino]"'
        ) from None
    # In full precision: on some machines the default is half of it, and boxes would move.
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        return OpenVinoSession(openvino.Core().compile_model(path, "CPU", settings))
    except RuntimeError as error:
        raise InputError(f"runtime: openvino cannot read '{path}': {_first_line(error)}") from error


class OpenVinoSession:
    """A graph that OpenVINO has compiled."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._outputs = [(output, output.get_any_name()) for output in model.outputs]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs by name."""
        try:
            found = self._model(dict(inputs))
        except RuntimeError as error:
            raise RunError(f"runtime: openvino failed on the graph: {_first_line(error)}") from error
        return {name: found[output] for output, name in self._outputs}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
