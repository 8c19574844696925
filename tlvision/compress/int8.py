"""Quantise the graphs of a bundle to integers of 8 bits, with a measured search for layers that need float.

Library: NNCF, post-training quantisation with accuracy control. It measures how far the metric falls and, if it falls
too far, ranks the layers by what each costs and takes the worst back to float, one after the other, until the rest is
within the limit. What is ours: the decoding stays in float (`decode_tail`), the ranges come from what the graphs see in
use (`record_inputs`), the metric is that of the task through the whole runtime, and the images of the search are
training images, so that validation images still measure.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.progress import track

from tlvision.compress.calibration import read_inputs, record_inputs
from tlvision.compress.layers import decode_tail, weighted_layers
from tlvision.runtime.model import RuntimeModel
from tlvision.runtime.sessions import open_session
from tlvision.terminal import console
from tlvision.types import InputError, Sample

Measure = Callable[[RuntimeModel, Sequence[int]], float]
"""Returns the metric, higher is better, of a model on some of the search images, by their numbers."""


class CompiledSession:
    """Runs a graph that OpenVINO has compiled; it has no statistics of taps."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._outputs = [(output, output.get_any_name()) for output in model.outputs]

    def run(self, inputs: Mapping[str, Any], *, taps: bool = False) -> dict[str, Any]:
        """Return the outputs by name."""
        found = self._model(dict(inputs))
        return {name: found[output] for output, name in self._outputs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Settings:
    """Settings of the quantisation.

    max_drop: largest loss of the metric on the search images that is accepted.
    calibration, search: the images that give the ranges, and those on which the loss is measured.
    measure:  the metric on search images.
    """

    max_drop: float
    calibration: Sequence[Sample]
    search: Sequence[Sample]
    measure: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Result:
    """What the quantisation has done.

    layers:      layers with weights. in_float: names of those among them that stay in float, by graph.
    float_value, int8_value: the metric on the search images.
    calibration, search: numbers of images.
    """

    layers: int
    in_float: Mapping[str, tuple[str, ...]]
    float_value: float
    int8_value: float
    calibration: int
    search: int

    def as_json(self) -> dict[str, Any]:
        """Return it for bundle.json."""
        return {
            "method": "int8",
            "library": f"nncf {_nncf().__version__}",
            "layers": self.layers,
            "in_float": {name: list(layers) for name, layers in self.in_float.items()},
            "search": {"images": self.search, "float": self.float_value, "int8": self.int8_value},
            "calibration": {"images": self.calibration},
        }


def check_int8() -> None:
    """Raise InputError if the library is not installed."""
    for package in ("nncf", "openvino"):
        if find_spec(package) is None:
            raise InputError(f'compress: the package {package} is not installed. pip install "tlvision[compress]"')


def quantise(model: RuntimeModel, out: Path, settings: Int8Settings) -> Int8Result:
    """Write the quantised graphs of a bundle in OpenVINO's format into `out`, under the names of its files.

    Raises InputError if the library is missing; RunError if a graph fails on an image.
    """
    import openvino

    nncf = _nncf()
    core = openvino.Core()
    graphs = {name: core.read_model(model.folder / file) for name, file in model.bundle.graphs.items()}
    numbers = list(range(len(settings.search)))
    before = settings.measure(model, numbers)
    with TemporaryDirectory(prefix="tlvision-compress-") as folder, _quiet(nncf):
        files = _record(model, settings.calibration, Path(folder))
        now = model
        for name, graph in graphs.items():
            others = now
            graphs[name] = nncf.quantize_with_accuracy_control(
                graph,
                nncf.Dataset(files[name], read_inputs),
                nncf.Dataset(numbers),
                lambda compiled, chosen, name=name, others=others: (
                    settings.measure(_with(others, name, compiled), list(chosen)),
                    None,
                ),
                max_drop=settings.max_drop / len(graphs),
                drop_type=nncf.DropType.ABSOLUTE,
                # Symmetric: asymmetric activations were no better on YOLOv8n, and 1.3 times slower with free axes.
                preset=nncf.QuantizationPreset.PERFORMANCE,
                subset_size=len(files[name]),
                ignored_scope=nncf.IgnoredScope(names=decode_tail(graph), validate=False),
            )
            path = out / model.bundle.graphs[name]
            openvino.save_model(graphs[name], path, compress_to_fp16=False)
            now = RuntimeModel(model.folder, model.bundle, {**now.sessions, name: open_session(path, "openvino", None)})
    layers = {name: list(weighted_layers(graph)) for name, graph in graphs.items()}
    return Int8Result(
        layers=sum(map(len, layers.values())),
        in_float={name: tuple(layer for layer, whole in rows if not whole) for name, rows in layers.items()},
        float_value=before,
        int8_value=settings.measure(now, numbers),
        calibration=len(settings.calibration),
        search=len(numbers),
    )


def _with(model: RuntimeModel, name: str, compiled: Any) -> RuntimeModel:
    """Return the model with another graph of OpenVINO in the place of its own."""
    return RuntimeModel(model.folder, model.bundle, {**model.sessions, name: CompiledSession(compiled)})


def _record(model: RuntimeModel, samples: Sequence[Sample], folder: Path) -> Mapping[str, Sequence[Path]]:
    steps = record_inputs(model, samples, folder)
    *_, found = track(steps, "calibration images", len(samples), console=console(), transient=True)
    return found


def _nncf() -> Any:
    """Return the library, imported so that it does not report its use to its makers."""
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    return nncf


@contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """Keep all but errors of the library from the user; its progress bars stay."""
    logger = logging.getLogger("nncf")
    level = logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
