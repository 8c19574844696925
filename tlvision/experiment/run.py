"""Run an experiment: plan, trials, table. Repeating it goes on where it stopped."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision import terminal
from tlvision.config.compose import find
from tlvision.config.presets import presets
from tlvision.config.yaml_text import write_yaml
from tlvision.engine.run_folder import is_finished
from tlvision.experiment.estimate import probe
from tlvision.experiment.executor import Executor, run_trials
from tlvision.experiment.executors import make_executor
from tlvision.experiment.file import ExperimentFile
from tlvision.experiment.plan import Plan, Trial, make_plan, shown_point
from tlvision.experiment.progress import ExperimentProgress
from tlvision.experiment.summary import summarise
from tlvision.experiment.table_text import as_lines, as_markdown, cells, columns_of, short_columns_of
from tlvision.experiment.trial_process import Outcome
from tlvision.experiment.tuning import Choice, check_search, chosen_values, search_rows
from tlvision.files.inputs import path_problem
from tlvision.files.json_files import read_object, write_json, write_text
from tlvision.report.experiment_page import write_experiment_page
from tlvision.types import InputError, counted

if TYPE_CHECKING:
    from rich.console import Console

FILE = "experiment.yaml"
SECONDS = "seconds.json"
"""How long each finished trial took, for the table of a repeated command."""


def run_experiment(
    experiment: ExperimentFile,
    origin: Path,
    out: Path,
    *,
    executor: Executor | None = None,
    jobs: int | None = None,
    plan_only: bool = False,
    estimate: bool = False,
) -> dict[str, Any] | None:
    """Run the trials that are not finished, and return the table, which is also written to `out`.

    origin:    the file of the experiment; its base is looked for beside it.
    out:       gets `trials/<id>` for each run, results.jsonl, table.json, table.csv, table.md and report.html. Trials
               that it holds already are taken as they are; interrupted and failed ones go on from their last
               checkpoint.
    executor:  what runs the trials; None for the one of the file, with `jobs` trials at a time if that is given.
    plan_only: print the plan, run nothing, and return None.
    estimate:  train the first trial for one epoch, print how long all take, and return None.

    Raises InputError before anything runs, if a config is wrong or `out` holds something else.
    """
    console = terminal.console(140)
    check_out(out)
    plan = make_plan(experiment, origin, out)
    if experiment.search is not None:
        check_search(plan)
    executor = executor or make_executor(experiment, jobs)
    console.print(_describe(plan, executor))
    if plan_only:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / FILE, write_yaml(_content(experiment, origin)))
    if estimate:
        with _stopped_at_end(executor):
            console.print(probe(plan, executor), soft_wrap=True)
        return None
    work = _Work(executor, out, console)
    choices: list[Choice] = []
    try:
        with _stopped_at_end(executor):
            if experiment.search is not None:
                choices = work.search(plan)
                plan = make_plan(experiment, origin, out, chosen_values(choices))
            outcomes = work.train(plan)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; repeat the command to go on. Trials are in {out / 'trials'}") from None
    table = summarise(plan, outcomes, {choice.row: choice.sentence(plan.metric.name) for choice in choices})
    table["search"] = [choice.as_json(plan.metric.name) for choice in choices]
    write_text(out / "results.jsonl", as_lines(plan, outcomes))
    write_pages(table, out)
    _print(table, out, console)
    return table


@contextmanager
def _stopped_at_end(executor: Executor) -> Iterator[None]:
    try:
        yield
    finally:
        executor.stop()


def _content(experiment: ExperimentFile, origin: Path) -> dict[str, Any]:
    """Return the content of the copy of the file, from which the experiment can be run again wherever it lies."""

    def absolute(names: list[str]) -> list[str]:
        return [name if name in presets() else str(find(name, origin.parent).resolve()) for name in names]

    content = experiment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    variants = [each for axis in content.get("axes", {}).values() for each in (axis.get("variants") or {}).values()]
    for each in [variant for variant in variants if "with" in variant]:
        each["with"] = absolute(each["with"])
    return {**content, "base": absolute(experiment.base)}


def check_out(out: Path) -> None:
    """Refuse, before anything is done, a folder that cannot be that of an experiment."""
    if problem := path_problem(str(out)):
        raise InputError(f"experiment: --out: the path {problem}. Give the path of a folder.")
    if out.exists() and not out.is_dir():
        raise InputError(f"experiment: --out: '{out}' is not a folder. Give the path of a folder.")
    if out.exists() and any(out.iterdir()) and not (out / FILE).is_file():
        raise InputError(f"experiment: '{out}' exists and is not the folder of an experiment. Give another --out.")


def _describe(plan: Plan, executor: Executor) -> str:
    states = [_state(trial) for trial in plan.trials.values()]
    parts = [f"{states.count(state)} {state}" for state in ("finished", "interrupted", "to run") if state in states]
    equal = len(plan.points) - len(plan.trials)
    same = f" ({equal} of {len(plan.points)} points are equal to others)" if equal else ""
    trials = f"{counted(len(plan.trials), 'trial')}{same}: {', '.join(parts)}; {executor.slots} at a time"
    search = plan.experiment.search
    if search is not None:
        rows = counted(len(plan.rows()), "row")
        trials = f"search ({search.method}) over {', '.join(search.space)} for {rows}, then {trials}"
    return f"{trials}\nmetric {plan.metric.name}"


def _state(trial: Trial) -> str:
    if is_finished(trial.folder):
        return "finished"
    return "interrupted" if (trial.folder / "config.yaml").exists() else "to run"


class _Work:
    """Runs trials, shows how far they are, and keeps how long each took."""

    def __init__(self, executor: Executor, out: Path, console: Console) -> None:
        self._executor, self._out, self._console = executor, out, console
        self._seconds = read_object(out / SECONDS, "Remove it.") if (out / SECONDS).exists() else {}

    def search(self, plan: Plan) -> list[Choice]:
        """Search for the values of each row."""
        with ExperimentProgress(self._console, None, plan.metric.name) as bars:
            choices = search_rows(
                plan, self._executor, self._out, lambda outcome: bars.ended(self._line(outcome)), bars.watch
            )
        for choice in choices:
            self._console.print(f"{choice.row}: {choice.sentence(plan.metric.name)}", markup=False)
        return choices

    def train(self, plan: Plan) -> dict[str, Outcome]:
        """Run the trials of the table, and return their outcomes by id."""
        outcomes: dict[str, Outcome] = {}
        with ExperimentProgress(self._console, len(plan.trials), plan.metric.name) as bars:
            for outcome in run_trials(list(plan.trials.values()), self._executor, bars.watch):
                text = self._line(outcome)
                trial = outcome.trial
                outcomes[trial.id] = Outcome(trial, self._seconds.get(trial.id), outcome.error)
                bars.ended(text)
        return outcomes

    def _line(self, outcome: Outcome) -> str:
        """Keep the time of a trial that has ended, and return a line on it, "" if it had ended before."""
        trial = outcome.trial
        if outcome.error:
            return f"{shown_point(trial.point)}: failed, {outcome.error}"
        if outcome.seconds is None:
            return ""
        self._seconds[trial.id] = round(self._seconds.get(trial.id, 0) + outcome.seconds, 2)
        write_json(self._out / SECONDS, self._seconds)
        return f"{shown_point(trial.point)}: {outcome.seconds:.0f} s"


def write_pages(table: Mapping[str, Any], out: Path) -> None:
    """Write the table, as JSON, Markdown, CSV and a page, into the folder of the experiment."""
    write_json(out / "table.json", dict(table), indent=1, nan="null")
    write_text(out / "table.md", as_markdown(table))
    with (out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        axes = list(table["rows"][0]["point"])
        columns = columns_of(table)
        writer.writerow([*axes, *columns])
        for row in table["rows"]:
            writer.writerow([*row["point"].values(), *("" if row[key] is None else row[key] for key in columns)])
    write_experiment_page(out / "report.html", table)


def _print(table: Mapping[str, Any], out: Path, console: Any) -> None:
    columns = short_columns_of(table)
    shown = terminal.table(table["metric"], *columns, right=set(columns) - {"verdict"})
    for row in table["rows"]:
        shown.add_row(row["name"], *cells(row, columns))
    console.print(shown)
    for sentence in table["notes"]:
        terminal.note(console, sentence)
    for row in table["rows"]:
        for sentence in row["notes"]:
            terminal.note(console, f"{row['name']}: {sentence}")
    console.print(
        f"table          {out / 'table.json'} (.csv, .md)\nreport         {out / 'report.html'}", soft_wrap=True
    )
