"""What a trial does besides training: measure the weights as they are, or the predictions of another trainer.

python -m tlvision.experiment.actions CONFIG.yaml [COMMAND …]

The run's folder gets config.yaml, classes.json, predictions, metrics.json and finished.json, as that of a training.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlvision.config.load import dump_config, load_config
from tlvision.config.schema import Config
from tlvision.engine.datasets import label_options, measure_options, read_dataset
from tlvision.engine.run_folder import mark_finished
from tlvision.evaluation import Analysis
from tlvision.files.json_files import write_json, write_text
from tlvision.plugin import get_plugin
from tlvision.tasks import Task, get_task
from tlvision.types import Dataset, InputError, RunError


def zero_shot(config: Config) -> None:
    """Measure the weights of a config on its validation data, before any training.

    Raises InputError if the weights lack a class or a tensor, so that something in the model is random.
    """
    from tlvision.engine.build import build_run
    from tlvision.engine.session import build_session
    from tlvision.training.fabric import make_fabric

    parts = build_run(config, as_pretrained=True)
    fresh = [*parts.report.missing, *parts.report.mismatched, *(t for t in parts.report.remapped if "; fresh " in t)]
    if fresh:
        raise InputError(
            f"the weights do not have all of it ({parts.report.summary()}; for example {fresh[0]}), so there is "
            "nothing to evaluate before training; model.rename maps their classes to yours"
        )
    run = _new_run(config)
    write_json(run / "classes.json", parts.classes.to_json(), indent=1)
    build_session(parts, run, make_fabric(config.train)).evaluate()
    mark_finished(run, 0)


def other_trainer(config: Config, command: Sequence[str]) -> None:
    """Run another trainer, and measure the predictions that it leaves.

    command: its words, of which a first `python` is the interpreter that runs this; behind them it gets the path of
             the config. It trains as the config says, and writes `predictions.json` (COCO results of `data.val`) or
             `predictions/` (label maps) into the folder `run.out`.

    Raises RunError if it fails, or leaves no predictions.
    """
    task = get_task(get_plugin(config.model.plugin).task_of(config.model.arch))
    train = read_dataset(task, config.data.train, "train", label_options(config.data))
    val = read_dataset(task, config.data.evaluated, "val", label_options(config.data), train.classes)
    run = _new_run(config)
    words = [sys.executable if command[0] == "python" else command[0], *command[1:], str(run / "config.yaml")]
    try:
        code = subprocess.run(words, check=False).returncode
    except OSError as error:
        raise InputError(f"command: '{words[0]}' cannot be started ({error.strerror}). Give its path.") from None
    if code:
        raise RunError(f"'{command[0]}' ended with code {code}")
    results = run / task.results_name
    if not results.exists():
        raise RunError(f"'{command[0]}' has not written {results}")
    write_json(run / "classes.json", train.classes.to_json(), indent=1)
    write_json(run / "metrics.json", measure_results(config, task, val, results), indent=1, nan="null")
    mark_finished(run, 0, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def measure_results(config: Config, task: Task, data: Dataset, results: Path) -> dict[str, Any]:
    """Return metrics.json of predictions for a dataset: a file of COCO results, or a folder of label maps."""
    with tempfile.TemporaryDirectory() as folder:
        truth = task.ground_truth(data, label_options(config.data), Path(folder), write=True)
        measured = replace(measure_options(config), analysis=Analysis())
        return {"task": task.name, **task.measure(truth, results, data, measured)}


def _new_run(config: Config) -> Path:
    run = Path(config.run.out)
    run.mkdir(parents=True)
    write_text(run / "config.yaml", dump_config(config))
    return run


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; a mistake is a line on stderr."""
    try:
        config = load_config(arguments[0])
        if arguments[1:]:
            other_trainer(config, arguments[1:])
        else:
            zero_shot(config)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
