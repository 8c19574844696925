"""Evaluate a trained run: on its own validation data, or on other data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tlvision.config.schema import Config, DatasetSettings
from tlvision.engine.datasets import label_options, read_dataset, source_of
from tlvision.engine.evaluators import build_evaluator
from tlvision.engine.limits import objects_given
from tlvision.engine.measured import open_measured
from tlvision.engine.model import LoadedModel, load
from tlvision.engine.operating_point import RESAMPLES, read_thresholds
from tlvision.evaluation import Analysis, format_metrics
from tlvision.files.outputs import numbered_folder, output_folder
from tlvision.runtime.bundle import is_bundle
from tlvision.tasks import Task
from tlvision.terminal import console, note
from tlvision.types import ClassMap, Dataset, InputError, listing


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """What an evaluation has measured; printing it shows a table.

    folder:  holds the predictions and metrics.json, inside of the run.
    metrics: the content of that file.
    """

    folder: Path
    metrics: dict[str, Any]

    def __str__(self) -> str:
        """Return the table of metrics, and what the analysis says in sentences."""
        return format_metrics(self.metrics)


def evaluate_run(
    run: Path,
    json_path: Path | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    *,
    max_detections: int | None = None,
    tiles: int | None = None,
) -> tuple[dict[str, Any], Path]:
    """Predict with a run's best weights and evaluate: on its own validation data, or on other data.

    json_path: a COCO json; with `masks`, a COCO panoptic json. images: the folder of its images.
    masks:     for a semantic model, the folder of label maps for `images`.
    max_detections: detections that count for an image and class, and that the model gives at least; None as the run.
    tiles:     as for `tlvision.load`.

    run:       a trained run, or a bundle that `tlvision export` wrote, whose predictions are then those of
               `tlvision.runtime`.

    A run with instance masks is evaluated by boxes alone, which is said, on a json that has none; one that has masks
    for some of its objects only is an InputError.

    Returns the metrics and the folder that now holds them with the predictions: `<run>/evaluations/<name of the data>`,
    with a number behind it where other data of that name were evaluated before.
    """
    given = images is not None
    if given != (json_path is not None or masks is not None):
        raise InputError(
            "evaluate: --images goes with --json (a COCO json), or, for a semantic model, with --masks (a folder of "
            "label maps); give both"
        )
    if is_bundle(run):
        return _evaluate_bundle(run, _settings_of(json_path, images, masks), max_detections=max_detections, tiles=tiles)
    model = load(run, tiles=tiles)
    config = model.config
    if max_detections is not None:
        if model.task.max_objects is None:
            raise InputError(
                f"evaluate: --max-detections has no effect on a model for the task '{model.task.name}', which finds no "
                "objects"
            )
        evaluate = config.evaluate.model_copy(update={"max_detections": max_detections})
        config = config.model_copy(update={"evaluate": evaluate})
        if objects_given(config, model.task) > objects_given(model.config, model.task):
            model = load(run, max_detections=objects_given(config, model.task), tiles=tiles)
            config = model.config.model_copy(update={"evaluate": evaluate})
    result = evaluate_model(replace(model, config=config), _settings_of(json_path, images, masks))
    return result.metrics, result.folder


def evaluate_model(model: LoadedModel, settings: DatasetSettings | None = None) -> EvaluateResult:
    """Predict with a loaded run and evaluate: on its own validation data, or on those of `settings`.

    Raises InputError as `read_evaluated` does.
    """
    config = model.config
    task, data = read_evaluated(model, settings or config.data.evaluated)
    about = " ".join([str(data.path.resolve()), *_differences(config)])
    folder = numbered_folder(model.run / "evaluations" / data.path.stem, COMMAND, about=about)
    with output_folder(folder, COMMAND, about=about) as out:
        analysis = Analysis(thresholds=read_thresholds(model.run), resamples=RESAMPLES)
        evaluator = build_evaluator(config, task, data, out=out, fabric=model.fabric, workers=0, analysis=analysis)
        evaluator.evaluate(model.adapter)
    return EvaluateResult(folder, evaluator.metrics)


def _differences(config: Config) -> list[str]:
    """Return what a run is evaluated with that is no default, so that evaluations of two kinds have two folders."""
    counted = config.evaluate.max_detections
    values = {
        "detections:": None if counted == type(config.evaluate)().max_detections else counted,
        "in tiles of": config.data.tiles.size or None,
        "max_detections": config.model.max_detections,
        "score_floor": config.model.score_floor,
    }
    return [f"{name} {value}" for name, value in values.items() if value is not None]


def _settings_of(json_path: Path | None, images: Path | None, masks: Path | None) -> DatasetSettings | None:
    """Return where other data lie, None if none are given."""
    if images is None:
        return None
    values = {"json": json_path, "images": images, "masks": masks}
    return DatasetSettings.model_validate({key: str(value) for key, value in values.items() if value})


def _evaluate_bundle(
    folder: Path, settings: DatasetSettings | None, *, max_detections: int | None, tiles: int | None
) -> tuple[dict[str, Any], Path]:
    """Evaluate a bundle as `evaluate_run` does; it has the settings that it was exported with."""
    if max_detections is not None or tiles is not None:
        name = "--tiles" if tiles is not None else "--max-detections"
        raise InputError(
            f"evaluate: {name} has no effect on a bundle, '{folder}', which has the settings that it was exported "
            "with; give the run"
        )
    model = open_measured(folder)
    task, data = read_evaluated(model, settings or model.config.data.evaluated)
    about = str(data.path.resolve())
    out = numbered_folder(folder / "evaluations" / data.path.stem, COMMAND, about=about)
    with output_folder(out, COMMAND, about=about):
        analysis = Analysis(thresholds=model.thresholds, resamples=RESAMPLES)
        evaluator = build_evaluator(
            model.config, task, data, out=out, fabric=model.fabric, workers=0, analysis=analysis
        )
        model.measure(evaluator, None)
    return evaluator.metrics, out


class _Evaluated(Protocol):
    """A model whose predictions are measured."""

    @property
    def task(self) -> Task: ...
    @property
    def classes(self) -> ClassMap: ...
    @property
    def config(self) -> Config: ...


def read_evaluated(model: _Evaluated, settings: DatasetSettings) -> tuple[Task, Dataset]:
    """Return the task to measure a loaded model by on a dataset, and the dataset; print notes on both.

    settings: where the dataset lies. Without masks there, a model with masks is measured by boxes alone.

    Raises InputError if the dataset cannot be read or has classes that the model lacks.
    """
    source = source_of(settings, "val")
    task = model.task.measured_as(source)
    if task is not model.task:
        name = Path(source.json or source.images).name
        absent = listing(sorted(model.task.labels - task.labels))
        note(console(), f"{name} has no {absent}: only {task.noun} are evaluated")
    data = read_dataset(task, settings, "val", label_options(model.config.data), model.classes, require_objects=False)
    for sentence in data.skipped:
        note(console(), sentence)
    return task, data


COMMAND = "evaluate"
