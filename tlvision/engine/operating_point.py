"""Analyse the selected checkpoint of a run, and keep its score thresholds and the map of its scores with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.evaluation import Analysis
from tlvision.evaluation.operating_point import DEFAULT_SCORE, Rule
from tlvision.evaluation.score_map import ScoreMap
from tlvision.files.json_files import read_object, write_json
from tlvision.types import ClassThresholds, InputError

if TYPE_CHECKING:
    from tlvision.config.schema import Config
    from tlvision.inference.domain_evaluator import DomainEvaluator
    from tlvision.inference.evaluator import Evaluator
    from tlvision.tasks import Task

THRESHOLDS = "thresholds.json"
CALIBRATION = "calibration.json"
RESAMPLES = 400
"""Of the images, for the intervals of one run; `tlvision compare` takes 1,000."""
MOST_SHOWN = 8
"""Number of classes whose thresholds are listed."""
_NO_MAP = "Restore the file from a copy, or delete it: then predictions have the scores of the model."
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
    thresholds.json holds kind, chosen_on (the labels), and what `OperatingPoint.as_json` returns. calibration.json
    holds kind, chosen_on, and what `fit_scores` returns; it is written if the map is kept.
    """
    path = run / "metrics.json"
    metrics = read_object(path, "Restore the file from a copy, or use another run.")
    method = config.evaluate.calibration
    asked = Analysis(rule_of(config), calibrate=None if method == "none" else method, resamples=RESAMPLES)
    metrics |= evaluator.analyse(run / task.results_name, asked)
    write_json(path, metrics, indent=1, nan="null")
    kind = task.metrics()[0].name.split("/")[0]
    found = metrics.get("analysis", {}).get(kind, {})
    about = {"kind": kind, "chosen_on": str(evaluator.data.path)}
    if (point := found.get("operating_point")) is not None:
        write_json(run / THRESHOLDS, {**about, **point}, indent=1, nan="null")
    fitted = found.get("calibration", {}).get("fitted", {})
    if fitted.get("kept"):
        write_json(run / CALIBRATION, {**about, **fitted}, indent=1)
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
        return f"of score {next(iter(values.values())):.3g} or more"
    if len(values) > MOST_SHOWN:
        return f"of score {min(values.values()):.3g} to {max(values.values()):.3g} or more, by class"
    return f"of score {', '.join(f'{value:.3g} ({name})' for name, value in values.items())} or more"


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


def read_score_map(run: Path) -> ScoreMap | None:
    """Return the map of the scores of a run, None if it has none.

    Raises InputError if calibration.json is damaged.
    """
    path = run / CALIBRATION
    if not path.exists():
        return None
    content = read_object(path, _NO_MAP)
    try:
        return ScoreMap.from_json(content.get("map"))
    except InputError as error:
        raise InputError(f"'{path}' is damaged: {error}. {_NO_MAP}") from None
