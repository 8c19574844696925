"""Open a run or a bundle to be measured on images of one's own making."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.engine.model import load
from tlvision.engine.resume import read_run_config
from tlvision.runtime.bundle import is_bundle
from tlvision.tasks import Task
from tlvision.types import ClassMap, ClassThresholds, InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric import Fabric

    from tlvision.config.schema import Config
    from tlvision.data.dataset import EvalImages
    from tlvision.inference.evaluator import Evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model that predicts for an evaluator.

    thresholds: score from which an object of a class counts.
    measure: has the evaluator measure its predictions for network inputs, None for those of the evaluator's data, and
             returns the metrics, flat.
    """

    task: Task
    classes: ClassMap
    config: Config
    fabric: Fabric
    input_spec: InputSpec
    thresholds: ClassThresholds
    measure: Callable[[Evaluator, EvalImages | None], dict[str, float]]


def open_measured(folder: Path) -> Measured:
    """Return the model of a run, or of a bundle; InputError if the folder is neither."""
    if not is_bundle(folder):
        model = load(folder)
        return Measured(
            task=model.task,
            classes=model.classes,
            config=model.config,
            fabric=model.fabric,
            input_spec=model.adapter.input_spec,
            thresholds=model.thresholds,
            measure=lambda evaluator, _: evaluator.evaluate(model.adapter),  # it has the inputs
        )
    from tlvision.runtime import load as load_bundle
    from tlvision.training.fabric import make_fabric

    runtime = load_bundle(folder)
    config = read_run_config(folder, finished=True)
    return Measured(
        task=runtime.task,
        classes=runtime.classes,
        config=config,
        fabric=make_fabric(config.train.model_copy(update={"device": "cpu", "precision": "auto"})),
        input_spec=runtime.bundle.input_spec,
        thresholds=runtime.selection.thresholds,
        measure=lambda evaluator, inputs: evaluator.measure_predictions(
            runtime.predict_inputs(runtime.inputs(evaluator.data.samples) if inputs is None else inputs)
        ),
    )
