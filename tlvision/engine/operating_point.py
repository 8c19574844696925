"""Analyse the selected checkpoint of a run, and keep its score thresholds with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.evaluation import Analysis
from tlvision.evaluation.operating_point import DEFAULT_SCORE, Rule
from tlvision.files.json_files import read_object, write_json
from tlvision.types import ClassThresholds, InputError

if TYPE_CHECKING:
    from tlvision.config.schema import Config
    from tlvision.inference.domain_evaluator import DomainEvaluator
    from tlvision.inference.evaluator import Evaluator
    from tlvision.tasks import Task

THRESHOLDS = "thresholds.json"
RESAMPLES = 400
"""Of the images, for the intervals of one run; `tlvision compare` takes 1,000."""
MOST_SHOWN = 8
"""Number of classes whose thresholds are listed."""
_REMEDY = "Restore the file from a copy, or delete it: then 0.25 counts for every class."


def rule_of(config: Config) -> Rule:
    """Return the rule of `evaluate.operating_point`."""
    value = config.evaluate.operating_point
    if isinstance(value, str):
        return Rule()
    ((goal, least),) = value.items()
    return Rule("precision" if goal == "precision" else "recall", least)


def analyse_run(run: Path, evaluator: Evaluator | DomainEvaluator, task: Task, config: Config) -> dict[str, Any]:
    """Add `analysis` and `intervals` to the run's metrics.json, write thresholds.json of objects, and return metrics.

    The thresholds are those of the first kind in `analysis`: of masks where the task has masks, else of boxes.
    thresholds.json holds kind, chosen_on (the labels), and what `OperatingPoint.as_json` returns.
    """
    path = run / "metrics.json"
    metrics = read_object(path, "Restore the file from a copy, or use another run.")
    metrics |= evaluator.analyse(run / task.results_name, Analysis(rule_of(config), resamples=RESAMPLES))
    write_json(path, metrics, indent=1, nan="null")
    kind = task.metrics()[0].name.split("/")[0]
    if (point := metrics.get("analysis", {}).get(kind, {}).get("operating_point")) is not None:
        chosen_on = str(evaluator.data.path)
        write_json(run / THRESHOLDS, {"kind": kind, "chosen_on": chosen_on, **point}, indent=1, nan="null")
    return metrics


def shown_thresholds(thresholds: ClassThresholds, names: Sequence[str]) -> str:
    """Return thresholds in words.

    >>> shown_thresholds(ClassThresholds(0.25), ["cat"])
    'of score 0.25 or more'
    >>> shown_thresholds(ClassThresholds(0.25, {"cat": 0.5}), ["cat", "dog"])
    'of score 0.5 (cat), 0.25 (dog) or more'
    """
    values = {name: float(value) for name, value in zip(names, thresholds.of(names), strict=True)}
    if len(set(values.values())) == 1:
        return f"of score {next(iter(values.values())):g} or more"
    if len(values) > MOST_SHOWN:
        return f"of score {min(values.values()):g} to {max(values.values()):g} or more, by class"
    return f"of score {', '.join(f'{value:g} ({name})' for name, value in values.items())} or more"


def read_thresholds(run: Path) -> ClassThresholds:
    """Return the score thresholds of a run; `DEFAULT_SCORE` for every class if it has none.

    Raises InputError if thresholds.json is damaged.
    """
    path = run / THRESHOLDS
    if not path.exists():
        return ClassThresholds(DEFAULT_SCORE)
    content = read_object(path, _REMEDY)
    rows = content.get("per_class")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise InputError(f"'{path}' is damaged: expected 'per_class' with a threshold for each class. {_REMEDY}")
    values: dict[str, Any] = {name: row.get("threshold") for name, row in rows.items()}
    default: Any = content.get("default")
    try:
        return ClassThresholds(default, values)
    except InputError as error:
        raise InputError(f"'{path}' is damaged: {error}. {_REMEDY}") from None
