"""What an export costs and gives: the metric, sizes, and latencies beside the model in torch, in one process.

    OMP_NUM_THREADS=1 python tools/bench.py export RUN [RUN …] [--images 20] [--json FILE]

Each run is exported as ONNX and as OpenVINO into a temporary folder, with the checks of `tlvision export`. The latency
of an image is that from its network input to its objects or label scores, one image at a time, one thread: `predict` of
the model in torch, and `run` of the bundle. Of a YOLO model, ultralytics exports the same weights as well, and the
graphs alone are timed. All take turns, image by image; medians.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tlvision.data.batches import collate, normalise
from tlvision.data.dataset import EvalImages
from tlvision.engine.evaluate import read_evaluated
from tlvision.engine.model import LoadedModel, load
from tlvision.export.export import ExportResult, export_run
from tlvision.inference.dense import dense_scores
from tlvision.plugin import HasDenseLogits
from tlvision.runtime import load as load_bundle
from tlvision.runtime.sessions import OnnxSession

MEGABYTE = 1e6
Steps = dict[str, Callable[[torch.Tensor], Any]]


def main() -> None:
    """Print one table, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="bench.py export")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(run, options.images) for run in options.runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "")) for name in names) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def measure(run: Path, count: int) -> dict[str, Any]:
    """Return the row of one run."""
    model = load(run, device="cpu")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        onnx = export_run(run, folder / "onnx")
        openvino = export_run(run, folder / "openvino", graph_format="openvino")
        steps = _steps(model, onnx, openvino)
        graphs = _graphs_alone(model, onnx, folder)
        inputs = _inputs(model, count)
        times = _take_turns(inputs, steps)
        alone = _take_turns(inputs, graphs)
        return {
            "model": f"{model.config.model.arch} ({model.config.model.plugin})",
            "metric": onnx.metric,
            "run": round(onnx.run or 0, 4),
            "onnx": round(onnx.bundle or 0, 4),
            "openvino": round(openvino.bundle or 0, 4),
            "objects the same": f"{onnx.comparison.same}, {openvino.comparison.same}",
            "onnx MB": round(_size(onnx.folder, ".onnx"), 1),
            "torch ms": round(times["torch"], 1),
            "onnx ms": round(times["onnx"], 1),
            "onnx, objects that count ms": round(times["onnx, objects that count"], 1),
            "openvino ms": round(times["openvino"], 1),
            **{f"{name} ms": round(value, 1) for name, value in alone.items()},
        }


def _steps(model: LoadedModel, onnx: ExportResult, openvino: ExportResult) -> Steps:
    def in_torch(inputs: torch.Tensor) -> Any:
        with torch.inference_mode():
            if isinstance(model.adapter, HasDenseLogits):
                return dense_scores(model.adapter, inputs)
            return model.adapter.predict(inputs)

    bundles = {name: load_bundle(each.folder, threads=1) for name, each in (("onnx", onnx), ("openvino", openvino))}
    least = model.selection.least()
    return {
        "torch": in_torch,
        "onnx": lambda inputs: bundles["onnx"].run(inputs.numpy()),
        "onnx, objects that count": lambda inputs: bundles["onnx"].run(inputs.numpy(), least),
        "openvino": lambda inputs: bundles["openvino"].run(inputs.numpy()),
    }


def _graphs_alone(model: LoadedModel, onnx: ExportResult, folder: Path) -> Steps:
    """Return the graph of a YOLO model, and that of ultralytics' own export of the same weights."""
    if model.config.model.plugin != "yolo":
        return {}
    from ultralytics import YOLO

    weights = folder / "model.pt"
    torch.save({"model": model.adapter.module, "train_args": {}}, weights)
    theirs = YOLO(weights).export(format="onnx", dynamic=True, simplify=False, imgsz=640)
    sessions = {
        "graph": OnnxSession(onnx.folder / "model.onnx", 1),
        "ultralytics' graph": OnnxSession(Path(theirs), 1),
    }
    return {
        name: lambda inputs, session=session: session.run({"images": inputs.numpy()})  # type: ignore[misc]
        for name, session in sessions.items()
    }


def _inputs(model: LoadedModel, count: int) -> list[torch.Tensor]:
    _, data = read_evaluated(model, model.config.data.evaluated)
    chosen = [data.samples[index] for index in np.linspace(0, len(data.samples) - 1, count).round().astype(int)]
    spec = model.adapter.input_spec
    images = EvalImages(chosen, spec, model.config.data.image_size, cache_bytes=0)
    return [normalise(collate([images.draw(index)]).images, spec) for index in range(count)]


def _take_turns(inputs: list[torch.Tensor], steps: Steps) -> dict[str, float]:
    """Return the median time of each step in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(inputs[0])  # caches and shapes
    for each in inputs:
        for name, step in steps.items():
            start = time.perf_counter()
            step(each)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: median(values) for name, values in times.items()}


def _size(folder: Path, suffix: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"*{suffix}")) / MEGABYTE


if __name__ == "__main__":
    main()
