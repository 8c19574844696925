"""Open the model of a finished run for a hook that learns from it."""

from __future__ import annotations

from pathlib import Path

from tlvision.engine.model import load
from tlvision.files.json_files import read_object
from tlvision.hooks.run_model import RunModel
from tlvision.inference.evaluator import flatten
from tlvision.tasks import Task
from tlvision.types import InputError


def open_run_model(folder: str, task: Task | None, hook: str) -> RunModel:
    """Return the selected model of a run, on the CPU.

    task: that of the run that is being built; None for a trainer that does not tell. hook: key of the hook that
          asked, for messages.

    Raises InputError if the folder holds no finished run, or its model is for another task.
    """
    run = Path(folder)
    if not run.is_dir():
        raise InputError(f"hooks: '{hook}' learns from the run '{folder}', and there is no such folder")
    model = load(run, device="cpu")
    if task is not None and model.task.name != task.name:
        raise InputError(
            f"hooks: '{hook}' learns from the run '{folder}', whose task is '{model.task.name}', not '{task.name}'"
        )
    metric = model.task.metrics(model.config.evaluate.max_detections)[0].name
    values = flatten(read_object(run / "metrics.json", "Restore the file from a copy, or use another run."))
    return RunModel(
        adapter=model.adapter,
        classes=model.classes,
        folder=folder,
        task=model.task.name,
        metric=metric,
        value=values.get(metric),
    )
