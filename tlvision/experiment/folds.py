"""Join the predictions of all folds, each for images that its model has not seen, and measure them once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlvision.config.schema import Config
from tlvision.engine.datasets import label_options, read_dataset
from tlvision.engine.run_folder import in_run
from tlvision.experiment.actions import measure_results
from tlvision.files.json_files import write_json
from tlvision.plugin import get_plugin
from tlvision.tasks import get_task


def measure_out_of_fold(config: Config, runs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the joined predictions and metrics.json into a new folder, and return the metrics.

    config: of the experiment; `data.train` is what was divided.
    runs:   finished runs, one for each fold.
    out:    folder; it is replaced if it exists.

    The average precision of all images at once is not the mean of the folds: scores of several models are sorted
    together.
    """
    task = get_task(get_plugin(config.model.plugin).task_of(config.model.arch))
    whole = config.data.train.model_copy(update={"subset": None})
    data = read_dataset(task, whole, "train", label_options(config.data))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    joined = out / task.results_name
    parts = [in_run(run, "metrics.json").parent / task.results_name for run in runs]
    if parts[0].is_dir():
        for part in parts:
            shutil.copytree(part, joined, dirs_exist_ok=True)
    else:
        rows = [row for part in parts for row in json.loads(part.read_text(encoding="utf-8"))]
        write_json(joined, rows)
    metrics = measure_results(config, task, data, joined)
    write_json(out / "metrics.json", metrics, indent=1, nan="null")
    return metrics
