"""Evaluate a trained run: on its own validation data, or on another COCO json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from tlvision.coco import read_coco, restrict_classes
from tlvision.config.loaded import load
from tlvision.types import InputError


def evaluate_run(run: Path, json_path: Path | None = None, images: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Predict with a run's best weights and evaluate: on its own validation data, or on another COCO json.

    A run with instance masks is evaluated by boxes alone, which is said, on a json that has none; one that has masks
    for some of its objects only is an InputError.

    Returns the metrics and the folder that now holds them with predictions.json: `<run>/evaluations/<json name>`.
    """
    from tlvision.evaluation import has_masks
    from tlvision.training.evaluate import Evaluator

    if (json_path is None) != (images is None):
        raise InputError("evaluate: --json and --images go together: the COCO json, and the folder of its images")
    model = load(run)
    path = json_path or Path(model.config.data.val.json_)
    masks = model.task == "instance" and has_masks(path)
    if model.task == "instance" and not masks:
        Console().print(f"[yellow]note[/] {path.name} has no masks: boxes alone are evaluated", highlight=False)
    data = read_coco(
        path,
        images or Path(model.config.data.val.images),
        model.classes,
        class_names=model.config.data.classes,
        require_objects=False,
        require_masks=masks,
    )
    out = run / "evaluations" / data.path.stem
    out.mkdir(parents=True, exist_ok=True)
    ground_truth = data.path
    if model.config.data.classes is not None:
        ground_truth = out / "ground_truth.json"
        restrict_classes(data.path, ground_truth, model.classes.names)
    evaluator = Evaluator(
        task="instance" if masks else "detect",
        data=data,
        ground_truth=ground_truth,
        out=out,
        fabric=model.fabric,
        image_size=model.config.data.image_size,
        batch_size=model.config.evaluate.batch,
        workers=0,
    )
    evaluator.evaluate(model.adapter)
    return evaluator.metrics, out
