"""Evaluate a trained run: on its own validation data, or on another COCO json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.config.loaded import load
from tlvision.types import ClassMap, InputError

if TYPE_CHECKING:
    from tlvision.coco import CocoData
    from tlvision.config.schema import Config


def evaluate_run(run: Path, json_path: Path | None = None, images: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Predict with a run's best weights and evaluate: on its own validation data, or on another COCO json.

    Returns the metrics and the folder that now holds them with predictions.json: `<run>/evaluations/<json name>`.
    """
    from tlvision.training.evaluate import Evaluator

    model = load(run)
    data = _evaluation_data(model.config, model.classes, json_path, images)
    out = run / "evaluations" / data.path.stem
    out.mkdir(parents=True, exist_ok=True)
    evaluator = Evaluator(
        data=data,
        ground_truth=data.path,
        out=out,
        fabric=model.fabric,
        image_size=model.config.data.image_size,
        batch_size=model.config.evaluate.batch,
        workers=0,
    )
    evaluator.evaluate(model.adapter)
    return evaluator.metrics, out


def _evaluation_data(config: Config, classes: ClassMap, json_path: Path | None, images: Path | None) -> CocoData:
    from tlvision.coco import read_coco

    if (json_path is None) != (images is None):
        raise InputError("evaluate: --json and --images go together: the COCO json, and the folder of its images")
    return read_coco(
        json_path or Path(config.data.val.json_),
        images or Path(config.data.val.images),
        classes,
        class_names=config.data.classes,
        require_objects=False,
    )
