"""Write the bundle of a trained run, and prove that it finds what the run finds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tlvision.engine.evaluate import read_evaluated
from tlvision.engine.evaluators import build_evaluator
from tlvision.engine.limits import objects_given, tiling
from tlvision.engine.model import LoadedModel, load
from tlvision.engine.run_folder import in_run
from tlvision.export.card import write_card
from tlvision.export.compare import LEAST, Comparison, compare_bundle
from tlvision.export.formats import GRAPH_FORMATS, write_graphs
from tlvision.export.taps import with_taps
from tlvision.files.atomic import find_folder
from tlvision.files.inputs import file_hash
from tlvision.files.json_files import read_object
from tlvision.files.outputs import check_folder, output_folder
from tlvision.inference.evaluator import flatten
from tlvision.monitoring.reference import NAME as REFERENCE
from tlvision.monitoring.reference import predict_with_reference
from tlvision.plugin import Exportable, get_plugin
from tlvision.runtime import load as load_bundle
from tlvision.runtime.bundle import Bundle, write_bundle
from tlvision.terminal import console, note
from tlvision.types import InputError, RunError, nearest

if TYPE_CHECKING:
    from tlvision.plugin.export import ExportGraphs
    from tlvision.tasks import Task
    from tlvision.types import Dataset

COMMAND = "export"
TOLERANCE = 0.001
"""Largest difference of the first metric of the task between bundle and run."""
_REMEDY = "Restore the file from a copy, or use another run."


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export has written and measured.

    folder: the bundle. comparison: with the model, image by image.
    metric: name of the first metric of the task; bundle, run: its values, None where it was not measured.
    """

    folder: Path
    comparison: Comparison
    metric: str
    bundle: float | None
    run: float | None


def export_run(run: Path, out: Path, *, graph_format: str = "onnx", fixed: bool = False) -> ExportResult:
    """Write a run's selected model as a bundle into `out`, and compare it with the run.

    out:          a new or empty folder, or one that `tlvision export` wrote. Nothing stays there if a check fails.
    graph_format: "onnx", or "openvino" for OpenVINO's own format.
    fixed:        take one image of one fixed size at a time, for devices that follow no free axes. The square input
                  pads images that are not square, so the metric may differ from that of the run, which is said.

    Compared are the outputs of the graphs and the predictions on up to 8 validation images with those of the model, and
    the metric on all validation images with that in the run's metrics.json.

    Raises InputError if the run cannot be read, its model family has no export, or a library is missing; RunError if an
    output, the predictions or the metric differ by more than the tolerances.
    """
    if graph_format not in GRAPH_FORMATS:
        raise InputError(f"export: --format '{graph_format}' is not known.{nearest(graph_format, GRAPH_FORMATS)}")
    check_folder(out, COMMAND, inputs=[run])
    model = load(run, device="cpu")
    check_exportable(model)
    if fixed:
        check_fixed(model)
    task, data = read_evaluated(model, model.config.data.evaluated)
    graphs = _graphs(model)
    check_window(model, graphs)
    with TemporaryDirectory(prefix="tlvision-export-") as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        size = (_side(model), _side(model)) if fixed else None
        files = write_graphs(graphs, folder, graph_format, fixed=size)
        bundle = replace(_bundle(model, graphs, files, size), graph_format=graph_format)
        shutil.copy(in_run(run, "config.yaml"), folder / "config.yaml")
        write_bundle(folder, bundle)
        result = _prove(model, task, data, graphs, folder, fixed=fixed)
        bundle = replace(bundle, check=_as_json(result))
        write_card(folder, bundle, model)
        write_bundle(folder, bundle)
        with output_folder(out, COMMAND, inputs=[run]):
            shutil.copytree(folder, out, dirs_exist_ok=True)
    return replace(result, folder=out)


def check_exportable(model: LoadedModel) -> None:
    """Raise InputError with the reason if the model's family has no export."""
    plugin = get_plugin(model.config.model.plugin)
    answer = plugin.capabilities.get("Exportable", "not written")
    if answer != "yes":
        raise InputError(f"export: plugin '{plugin.name}' has no export ({answer}). Choose another model family")
    if not isinstance(model.adapter, Exportable):
        raise InputError(
            f"export: plugin '{plugin.name}' has no export of '{model.config.model.arch}' (not written). Choose "
            "another architecture"
        )


def _graphs(model: LoadedModel) -> ExportGraphs:
    import torch

    assert isinstance(model.adapter, Exportable)
    side = _side(model)
    model.adapter.module.eval()
    with torch.no_grad():
        return with_taps(model.adapter.export_graphs(torch.zeros(2, 3, side, side)), model.adapter)


def _side(model: LoadedModel) -> int:
    """Return the side of the square network input that holds every image."""
    spec = model.adapter.input_spec
    side = -(-model.config.data.image_size // spec.multiple_of) * spec.multiple_of
    margin = spec.margin if spec.resize == "letterbox" else 0
    return -(-(side + margin) // spec.multiple_of) * spec.multiple_of


def _bundle(model: LoadedModel, graphs: ExportGraphs, files: dict[str, str], fixed: tuple[int, int] | None) -> Bundle:
    config = model.config
    tiles = tiling(config, model.task)
    return Bundle(
        task=model.task.name,
        name=model.name,
        classes=model.classes,
        input_spec=model.adapter.input_spec,
        image_size=config.data.image_size,
        fixed=fixed,
        decoder=graphs.decoder,
        graphs=files,
        graph_format="onnx",
        thresholds=model.thresholds,
        score_map=model.score_map,
        window=config.evaluate.window,
        tiles=None if tiles is None else tiles.settings,
        most=objects_given(config, model.task),
        bits=config.data.bits,
        licence=get_plugin(config.model.plugin).licence,
        provenance=_provenance(model),
    )


def _provenance(model: LoadedModel) -> dict[str, Any]:
    environment = read_object(in_run(model.run, "environment.json"), _REMEDY)
    kept = ("tlvision", "commit", "plugin", "packages", "weights", "data", "seed")
    return {
        "run": model.name,
        "arch": model.config.model.arch,
        "model_sha256": file_hash(find_folder(model.run / "checkpoints" / "best") / "model.safetensors"),
        **{key: environment[key] for key in kept if key in environment},
    }


def _prove(
    model: LoadedModel, task: Task, data: Dataset, graphs: ExportGraphs, folder: Path, *, fixed: bool
) -> ExportResult:
    """Compare the bundle in `folder` with its run, and write its reference for `tlvision monitor`."""
    runtime = load_bundle(folder)
    comparison = compare_bundle(runtime, model.adapter, graphs, data.samples, model.config.data.image_size)
    if comparison.same is None:
        note(console(), f"no object has a score of {LEAST} or more: predictions are compared by the metric alone")
    with TemporaryDirectory(prefix="tlvision-export-") as out:
        evaluator = build_evaluator(
            model.config, task, data, out=Path(out), fabric=model.fabric, workers=0, analysis=None
        )
        console().print(f"measuring the bundle on {len(data.samples)} validation images", soft_wrap=True)
        reference = folder / REFERENCE
        found = evaluator.measure_predictions(predict_with_reference(runtime, data.samples, reference))
    metric = task.metrics(evaluator.measure.max_detections)[0].name
    own = flatten(read_object(model.run / "metrics.json", _REMEDY)).get(metric)
    result = ExportResult(folder, comparison, metric, found.get(metric), own)
    _check_metric(result, fixed=fixed)
    return result


def check_fixed(model: LoadedModel) -> None:
    """Raise InputError if the model's evaluation asks its graph for inputs of another size than a fixed one."""
    if model.config.evaluate.window:
        raise InputError(
            f"export: --fixed takes images of one size, and evaluate.window {model.config.evaluate.window} of the run "
            "asks for smaller ones. Export without --fixed"
        )


def check_window(model: LoadedModel, graphs: ExportGraphs) -> None:
    """Raise InputError if a sliding window asks a graph for inputs of another size than the only one that it takes."""
    if model.config.evaluate.window and not graphs.graphs["model"].free:
        raise InputError(
            f"export: the graph of '{model.config.model.arch}' takes images of one size, and evaluate.window "
            f"{model.config.evaluate.window} of the run asks for smaller ones. Remove evaluate.window and train again"
        )


def _check_metric(result: ExportResult, *, fixed: bool) -> None:
    """Raise RunError if the metric differs from that of the run; a fixed input may change it, which is said."""
    if result.bundle is None or result.run is None:
        note(console(), f"{result.metric} is not measured: the bundle was compared image by image alone")
        return
    apart = abs(result.bundle - result.run)
    if apart <= TOLERANCE:
        return
    text = f"{result.metric} of the bundle is {result.bundle:.4f}, and {result.run:.4f} in the run's metrics.json"
    if not fixed:
        raise RunError(f"export: {text}; at most {TOLERANCE} apart is allowed. The bundle was not written")
    note(console(), f"{text}: the fixed square input pads images that are not square")


def _as_json(result: ExportResult) -> dict[str, Any]:
    return {
        "comparison": result.comparison.as_json(),
        "metric": result.metric,
        "bundle": result.bundle,
        "run": result.run,
        "tolerance": TOLERANCE,
    }
