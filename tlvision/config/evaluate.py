"""Evaluate a trained run: on its own validation data, or on other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from tlvision.config.data import read_dataset
from tlvision.config.evaluator import build_evaluator
from tlvision.config.loaded import LoadedModel, load
from tlvision.config.schema import DatasetSettings
from tlvision.plugin import Task
from tlvision.types import InputError


def evaluate_run(
    run: Path, json_path: Path | None = None, images: Path | None = None, masks: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """Predict with a run's best weights and evaluate: on its own validation data, or on other data.

    json_path: a COCO json; with `masks`, a COCO panoptic json. images: the folder of its images.
    masks:     for a semantic model, the folder of label maps for `images`.

    A run with instance masks is evaluated by boxes alone, which is said, on a json that has none; one that has masks
    for some of its objects only is an InputError.

    Returns the metrics and the folder that now holds them with the predictions: `<run>/evaluations/<name of the data>`.
    """
    given = images is not None
    if given != (json_path is not None or masks is not None):
        raise InputError(
            "evaluate: --images goes with --json (a COCO json), or, for a semantic model, with --masks (a folder of "
            "label maps); give both"
        )
    model = load(run)
    settings = model.config.data.evaluated
    if images is not None:
        values = {"json": json_path, "images": images, "masks": masks}
        settings = DatasetSettings.model_validate({key: str(value) for key, value in values.items() if value})
    task = _task(model, settings)
    data = read_dataset(model.config.data, settings, task, model.classes, "val", require_objects=False)
    out = run / "evaluations" / data.path.stem
    out.mkdir(parents=True, exist_ok=True)
    evaluator = build_evaluator(
        model.config, task, data, classes=model.classes, out=out, fabric=model.fabric, workers=0
    )
    evaluator.evaluate(model.adapter)
    return evaluator.metrics, out


def _task(model: LoadedModel, settings: DatasetSettings) -> Task:
    """Return the task to evaluate for: boxes alone where there is no mask to compare with."""
    from tlvision.evaluation import has_masks

    if model.task != "instance" or settings.json_ is None or has_masks(settings.json_):
        return model.task
    name = Path(settings.json_).name
    Console().print(f"[yellow]note[/] {name} has no masks: boxes alone are evaluated", highlight=False)
    return "detect"
