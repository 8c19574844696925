"""Run graphs with ONNX Runtime or OpenVINO, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from tlvision.plugin.export import TAP_PREFIX
from tlvision.types import InputError, RunError

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Suffix of a graph's file by format."""


class Session(Protocol):
    """One graph, ready to run."""

    def run(self, inputs: Mapping[str, Any], *, taps: bool = False) -> dict[str, Any]:
        """Return the outputs by name, numpy, for inputs by name.

        taps: also compute the statistics of taps (`tlvision.plugin.export.TAP_PREFIX`).
        """
        ...


def open_session(path: Path, graph_format: str, threads: int | None) -> Session:
    """Return a session for a graph's file.

    graph_format: "onnx" or "openvino". threads: of one call; None lets the library decide.

    Raises InputError if the library is not installed or cannot read the file.
    """
    return OpenVinoSession(path, threads) if graph_format == "openvino" else OnnxSession(path, threads)


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
        self._without_taps = [name for name in self._names if not name.startswith(TAP_PREFIX)]
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True  # what taps alone need costs nothing if they are not wanted

    def run(self, inputs: Mapping[str, Any], *, taps: bool = False) -> dict[str, Any]:
        """Return the outputs by name; taps: as for `Session`."""
        names = self._names if taps else self._without_taps
        try:
            return dict(zip(names, self._session.run(names, dict(inputs), self._options), strict=True))
        except Exception as error:  # its classes are made at run time
            raise RunError(f"runtime: onnxruntime failed on the graph: {_first_line(error)}") from error


class OpenVinoSession:
    """A graph in OpenVINO, on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        if find_spec("openvino") is None:
            raise InputError(
                'runtime: openvino is not installed, in whose format the bundle is. pip install "tlvision[openvino]"'
            )
        # In full precision: on some machines the default is half of it, and boxes would move.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._path, self._settings = path, settings
        self._lock = Lock()
        try:
            self._model, self._with_taps = self._compile(taps=False), None
        except RuntimeError as error:
            raise InputError(f"runtime: openvino cannot read '{path}': {_first_line(error)}") from error

    def run(self, inputs: Mapping[str, Any], *, taps: bool = False) -> dict[str, Any]:
        """Return the outputs by name; taps: as for `Session`. A model with them is compiled when it is first used."""
        try:
            model = self._model
            if taps:
                with self._lock:
                    self._with_taps = self._with_taps or self._compile(taps=True)
                model = self._with_taps
            found = model(dict(inputs))
        except RuntimeError as error:
            raise RunError(f"runtime: openvino failed on the graph: {_first_line(error)}") from error
        return {output.get_any_name(): found[output] for output in model.outputs}

    def _compile(self, *, taps: bool) -> Any:
        import openvino

        core = openvino.Core()
        model = core.read_model(self._path)
        wanted = [each for each in model.outputs if taps or not each.get_any_name().startswith(TAP_PREFIX)]
        return core.compile_model(openvino.Model(wanted, model.get_parameters()), "CPU", self._settings)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
