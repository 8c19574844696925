"""INT8 of one YOLO run: ours, NNCF's default without our rule for the decoding, and ultralytics' own export.

    OMP_NUM_THREADS=1 python tools/bench.py int8 RUN [--json FILE]

All are OpenVINO models of the same weights, calibrated on the same training images (ultralytics: all of them), and
measured on the validation images of the run by the same scorer; differences to their own float model with a paired
bootstrap over the images. The graphs are timed alone, one thread, and take turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from tlvision.cli.main import main as run_command
from tlvision.compress import int8 as quantising
from tlvision.compress.compress import CompressSettings, _write_int8
from tlvision.engine.evaluate import read_evaluated
from tlvision.engine.model import LoadedModel, load
from tlvision.evaluation.bootstrap import Bootstrap, bootstrap
from tlvision.evaluation.per_image import objects_per_image
from tlvision.export.export import export_run
from tlvision.plugin.export import TAP_PREFIX
from tlvision.runtime import load as load_bundle
from tlvision.types import Dataset


def main() -> None:
    """Print one row for each model, and write them as JSON."""
    parser = argparse.ArgumentParser(prog="bench.py int8")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.run, device="cpu")
    _, data = read_evaluated(model, model.config.data.evaluated)
    with TemporaryDirectory() as temporary:
        rows = measure(model, data, Path(temporary))
    for row in rows:
        print(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def measure(model: LoadedModel, data: Dataset, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each model."""
    predictions, graphs = {}, {}
    export_run(model.run, folder / "openvino", graph_format="openvino")
    _write_int8("int8", model, folder / "openvino", folder / "int8", CompressSettings())
    with_tail = quantising.decode_tail
    quantising.decode_tail = lambda graph: []
    try:
        settings = CompressSettings(max_drop=0.999)  # no search: NNCF as it comes
        _write_int8("NNCF's default", model, folder / "openvino", folder / "default", settings)
    finally:
        quantising.decode_tail = with_tail
    for name, place in (("tlvision float", "openvino"), ("tlvision int8", "int8"), ("NNCF default", "default")):
        bundle = load_bundle(folder / place, threads=1)
        rows = []
        for sample, found in bundle.predict_samples(data.samples):
            for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
                rows.append(_row(sample.image_id, box, float(score), model.classes.source_ids[int(label)]))
        predictions[name] = _write(folder / f"{place}.json", rows)
        graphs[name] = folder / place / "model.xml"
    for name, exported in _ultralytics(model, folder).items():
        predictions[name] = _write(folder / f"{name}.json", _predict_upstream(exported, model, data))
        graphs[name] = next(exported.glob("*.xml"))
    results = [objects_per_image(data.path, path, ("bbox",)) for path in predictions.values()]
    return _table(bootstrap(results), list(predictions), _times(graphs, model.config.data.image_size), graphs)


def _table(
    found: Bootstrap, names: list[str], times: Mapping[str, float], graphs: Mapping[str, Path]
) -> list[dict[str, Any]]:
    rows = []
    for position, name in enumerate(names):
        reference = names.index("ultralytics float") if name.startswith("ultralytics") else 0
        gap = found.difference("bbox/AP", [reference], [position])
        weights = graphs[name].with_suffix(".bin").stat().st_size + graphs[name].stat().st_size
        rows.append(
            {
                "model": name,
                "AP": float(found.values["bbox/AP"][position, 0]),
                "lost": None if position == reference else -(gap.difference or 0.0),
                "from": None if position == reference else -(gap.high or 0.0),
                "to": None if position == reference else -(gap.low or 0.0),
                "MB": weights / 1e6,
                "graph ms": times[name],
                "graph ms, one shape": times.get(f"{name}, one shape", times[name]),
            }
        )
    return rows


def _ultralytics(model: LoadedModel, folder: Path) -> dict[str, Path]:
    """Return the folders of upstream's own exports of the same weights."""
    from ultralytics import YOLO

    converted, train = folder / "yolo_data", model.config.data.train
    run_command(["convert", str(train.json_), str(converted), "--to", "yolo", "--images", str(train.images)])
    about = yaml.safe_load((converted / "data.yaml").read_text())
    # Upstream calibrates on the part "val"; it is given the training images, as ours is.
    (converted / "data.yaml").write_text(yaml.safe_dump({**about, "path": str(converted), "val": about["train"]}))
    exports = {}
    for name, whole in (("ultralytics float", False), ("ultralytics int8", True)):
        weights = folder / f"{name.split()[1]}.pt"
        torch.save({"model": model.adapter.module, "train_args": {}}, weights)
        extra = {"int8": True, "data": str(converted / "data.yaml"), "fraction": 1.0} if whole else {}
        out = YOLO(weights).export(format="openvino", imgsz=model.config.data.image_size, **extra)
        exports[name] = Path(out)
    return exports


def _predict_upstream(exported: Path, model: LoadedModel, data: Dataset) -> list[dict[str, Any]]:
    from ultralytics import YOLO

    upstream = YOLO(exported, task="detect")
    rows = []
    for sample in data.samples:
        (found,) = upstream.predict(
            sample.path, imgsz=model.config.data.image_size, conf=0.001, iou=0.7, max_det=300, verbose=False
        )
        boxes = found.boxes
        for box, score, label in zip(boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy(), strict=True):
            rows.append(_row(sample.image_id, box, float(score), model.classes.source_ids[int(label)]))
    return rows


def _row(image: int, box: Any, score: float, category: int) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return {"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def _times(graphs: Mapping[str, Path], side: int) -> dict[str, float]:
    """Return the median time of each graph in milliseconds, without what comes before and after it."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    compiled = {}
    for name, path in graphs.items():
        graph = _without_taps(core.read_model(path))
        compiled[name] = core.compile_model(graph, "CPU", settings)
        if graph.is_dynamic():  # upstream's takes one shape alone
            graph.reshape([1, 3, side, side])
            compiled[f"{name}, one shape"] = core.compile_model(graph, "CPU", settings)
    image = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for turn in range(60):
        for name, graph in compiled.items():
            start = time.perf_counter()
            graph([image])
            if turn >= 5:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: median(values) for name, values in times.items()}


def _without_taps(model: Any) -> Any:
    """Return a graph without the statistics that our exports carry, as the runtime compiles it."""
    for result in model.get_results():
        if any(name.startswith(TAP_PREFIX) for name in result.input_value(0).get_names()):
            model.remove_result(result)
    return model
