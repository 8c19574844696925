"""Search values for each row of an experiment on held-out training images; `data.val` takes no part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlvision.experiment.executor import Executor, Watch, run_trials
from tlvision.experiment.plan import Plan, Point, Trial, shown_point
from tlvision.experiment.search import Candidate, make_search, rounds_of
from tlvision.experiment.trial_process import Outcome
from tlvision.files.json_files import write_json
from tlvision.types import InputError, RunError, counted

Report = Callable[[Outcome], None]


@dataclass(slots=True)
class Choice:
    """What the search of one row has found.

    row:      its name. values: the chosen ones. value: of the metric on the images that were held out.
    tried:    of each candidate: values, epochs, value (None if it failed), curve ([epoch, value] of each round), error.
    epochs:   trained in all, by all candidates. full: epochs of training every candidate to its end.
    """

    row: str
    values: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    tried: list[dict[str, Any]] = field(default_factory=list)
    epochs: int = 0
    full: int = 0

    def as_json(self, metric: str) -> dict[str, Any]:
        """Return it for search.json."""
        return {
            "row": self.row,
            "chosen": dict(self.values),
            "metric": metric,
            "value": self.value,
            "epochs": self.epochs,
            "epochs_of_all": self.full,
            "candidates": self.tried,
        }

    def sentence(self, metric: str) -> str:
        """Return what was chosen, of how many, by what."""
        values = ", ".join(f"{key}={value}" for key, value in self.values.items())
        share = f", {100 * self.epochs / self.full:.0f} % of all their epochs" if self.epochs < self.full else ""
        return (
            f"{values}, chosen of {counted(len(self.tried), 'candidate')} by {metric} ({self.value:.4f}) on training "
            f"images held out{share}"
        )


def check_search(plan: Plan) -> None:
    """Raise InputError, before anything runs, if the search of a row has a config that is wrong."""
    for point in plan.rows():
        _RowSearch(plan, point).trial(Candidate(0, _some_values(plan)))


def _some_values(plan: Plan) -> dict[str, Any]:
    assert plan.experiment.search is not None
    space = plan.experiment.search.space
    return {key: (each.values or each.log or each.uniform or each.integer or [None])[0] for key, each in space.items()}


def search_rows(plan: Plan, executor: Executor, out: Path, report: Report, watch: Watch) -> list[Choice]:
    """Search for each row, one after the other, write search.json, and return what was chosen.

    report: called with the outcome of each trial. watch: as for `run_trials`.

    Raises RunError if no candidate of a row has a value.
    """
    choices = []
    for point in plan.rows():
        choices.append(_RowSearch(plan, point).run(executor, out, report, watch))
        write_json(out / "search.json", [each.as_json(plan.metric.name) for each in choices], indent=1, nan="null")
    return choices


class _RowSearch:
    """The search of one row."""

    def __init__(self, plan: Plan, point: Point) -> None:
        assert plan.experiment.search is not None
        self._settings, self._plan, self._point = plan.experiment.search, plan, point
        plain = plan.maker.config(point, {})
        if plain.data.train.subset is not None:
            raise InputError("search: data.train.subset is set, but the search divides data.train itself; remove it")
        self._name = shown_point(plan.part(point, "compare"))
        if plan.maker.trial(point).after:
            raise InputError(
                f"search: {self._name} needs another trial (after), whose values would be searched too. Search the "
                "first stage alone, write what it found into the file, then search the next"
            )
        self._epochs = plain.train.epochs
        data = plain.data.train.model_dump(mode="json", by_alias=True, exclude={"subset"}, exclude_none=True)
        subset = self._settings.tune.model_dump(mode="json", exclude_none=True)
        self._held_out: dict[str, Any] = {"data.train.subset": subset, "data.val": {**data, "subset": subset}}
        if self._settings.method == "halving":
            self._held_out["evaluate.every"] = rounds_of(self._epochs, self._settings.factor, self._settings.first)[0]

    def trial(self, candidate: Candidate) -> Trial:
        """Return the trial of a candidate; InputError if its config is wrong."""
        values = {**candidate.values, **self._held_out}
        until = None if candidate.until == self._epochs else candidate.until
        return self._plan.maker.searched(self._point, values, until)

    def run(self, executor: Executor, out: Path, report: Report, watch: Watch) -> Choice:
        """Do all rounds, and return the best of those that were trained longest."""
        choice, tried = Choice(self._name), dict[int, dict[str, Any]]()
        search = make_search(self._settings, self._epochs, out / f"optuna-{self._hash()}.log")
        while candidates := search.ask(executor.slots):
            trials = {each.number: self.trial(each) for each in candidates}
            outcomes = {}
            for outcome in run_trials(list({trial.id: trial for trial in trials.values()}.values()), executor, watch):
                outcomes[outcome.trial.id] = outcome
                report(outcome)
            for each in candidates:
                trial = trials[each.number]
                value = None if outcomes[trial.id].error else value_of(trial, self._plan.metric.name)
                before = tried[each.number]["curve"] if each.number in tried else []
                epochs = each.until or self._epochs
                tried[each.number] = {
                    "values": dict(each.values),
                    "epochs": epochs,
                    "value": value,
                    "curve": before if value is None else [*before, [epochs, value]],
                    "error": outcomes[trial.id].error,
                    "run": str(trial.folder),
                }
            sign = 1 if self._plan.metric.higher_is_better else -1
            values = {each.number: tried[each.number]["value"] for each in candidates}
            search.tell({number: None if value is None else sign * value for number, value in values.items()})
        choice.tried = [tried[number] for number in sorted(tried)]
        choice.epochs = sum(each["epochs"] for each in choice.tried)
        choice.full = len(choice.tried) * self._epochs
        self._choose(choice)
        return choice

    def _hash(self) -> str:
        """Return a name for the study of this row: results of other settings would be another study."""
        content = json.dumps([self._name, self._settings.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def _choose(self, choice: Choice) -> None:
        measured = [each for each in choice.tried if each["value"] is not None]
        if not measured:
            errors = sorted({each["error"] for each in choice.tried if each["error"]})
            why = errors[0] if errors else f"{self._plan.metric.name} is not measured on the images held out"
            raise RunError(f"search of {self._name}: no candidate has a value; {why}")
        pick = max if self._plan.metric.higher_is_better else min
        longest = max(each["epochs"] for each in measured)
        best = pick((each for each in measured if each["epochs"] == longest), key=lambda each: each["value"])
        choice.values, choice.value = best["values"], best["value"]


def value_of(trial: Trial, metric: str) -> float | None:
    """Return the metric in the last evaluation of a trial up to its epoch; None if it is not measured there."""
    found = None
    for line in (trial.folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        if content.get("kind") != "evaluation" or (trial.until is not None and content["epoch"] > trial.until):
            continue
        metrics = content["metrics"]
        found = metrics.get(metric, metrics.get(f"target/{metric}", metrics.get(f"source/{metric}")))
    return found


def chosen_values(choices: Sequence[Choice]) -> dict[str, Mapping[str, Any]]:
    """Return the chosen values by row, for `make_plan`."""
    return {choice.row: choice.values for choice in choices}
