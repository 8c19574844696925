"""Run an experiment: plan, trials, table. Repeating it goes on where it stopped."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlvision import terminal
from tlvision.config.compose import find
from tlvision.config.presets import presets
from tlvision.config.yaml_text import write_yaml
from tlvision.engine.run_folder import is_finished
from tlvision.experiment.file import ExperimentFile
from tlvision.experiment.local import LocalExecutor, Outcome
from tlvision.experiment.plan import Plan, Trial, make_plan, shown_point
from tlvision.experiment.progress import ExperimentProgress
from tlvision.experiment.summary import as_lines, as_markdown, cells, columns_of, summarise
from tlvision.files.inputs import path_problem
from tlvision.files.json_files import read_object, write_json, write_text
from tlvision.report.experiment_page import write_experiment_page
from tlvision.types import InputError, counted

FILE = "experiment.yaml"
SECONDS = "seconds.json"
"""How long each finished trial took, for the table of a repeated command."""


def run_experiment(
    experiment: ExperimentFile,
    origin: Path,
    out: Path,
    *,
    executor: LocalExecutor | None = None,
    plan_only: bool = False,
) -> dict[str, Any] | None:
    """Run the trials that are not finished, and return the table, which is also written to `out`.

    origin:    the file of the experiment; its base is looked for beside it.
    out:       gets `trials/<id>` for each run, results.jsonl, table.json, table.csv, table.md and report.html. Trials
               that it holds already are taken as they are; interrupted and failed ones go on from their last
               checkpoint.
    executor:  what runs the trials; None for the one of the file.
    plan_only: print the plan, run nothing, and return None.

    Raises InputError before anything runs, if a config is wrong or `out` holds something else.
    """
    console = terminal.console(140)
    _check_folder(out)
    plan = make_plan(experiment, origin, out)
    executor = executor or local_executor(experiment)
    console.print(_describe(plan, executor))
    if plan_only:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / FILE, write_yaml(_content(experiment, origin)))
    try:
        outcomes = _run(plan, executor, out, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; repeat the command to go on. Trials are in {out / 'trials'}") from None
    table = summarise(plan, outcomes)
    _write(plan, outcomes, table, out)
    _print(table, out, console)
    return table


def _content(experiment: ExperimentFile, origin: Path) -> dict[str, Any]:
    """Return the content of the copy of the file, from which the experiment can be run again wherever it lies."""

    def absolute(names: list[str]) -> list[str]:
        return [name if name in presets() else str(find(name, origin.parent).resolve()) for name in names]

    content = experiment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    variants = [each for axis in content["axes"].values() for each in (axis.get("variants") or {}).values()]
    for each in [variant for variant in variants if "with" in variant]:
        each["with"] = absolute(each["with"])
    return {**content, "base": absolute(experiment.base)}


def _check_folder(out: Path) -> None:
    if problem := path_problem(str(out)):
        raise InputError(f"experiment: --out: the path {problem}. Give the path of a folder.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / FILE).is_file())):
        raise InputError(f"experiment: '{out}' exists and is not the folder of an experiment. Give another --out.")


def local_executor(experiment: ExperimentFile, jobs: int | None = None) -> LocalExecutor:
    """Return the executor of an experiment; `jobs` replaces the number of trials at a time."""
    gpus = gpu_names()
    wanted = experiment.executor.local.jobs if jobs is None else jobs
    return LocalExecutor(jobs=max(1, len(gpus)) if wanted == "auto" else int(wanted), gpus=gpus)


def gpu_names() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in given.split(",")][:count] if given else [str(number) for number in range(count)]


def _describe(plan: Plan, executor: LocalExecutor) -> str:
    states = [_state(trial) for trial in plan.trials.values()]
    parts = [f"{states.count(state)} {state}" for state in ("finished", "interrupted", "to run") if state in states]
    equal = len(plan.points) - len(plan.trials)
    same = f" ({equal} of {len(plan.points)} points are equal to others)" if equal else ""
    return (
        f"{counted(len(plan.trials), 'trial')}{same}: {', '.join(parts)}; {executor.jobs} at a time\n"
        f"metric {plan.metric.name}"
    )


def _state(trial: Trial) -> str:
    if is_finished(trial.folder):
        return "finished"
    return "interrupted" if (trial.folder / "config.yaml").exists() else "to run"


def _run(plan: Plan, executor: LocalExecutor, out: Path, console: Any) -> dict[str, Outcome]:
    seconds = read_object(out / SECONDS, "Remove it.") if (out / SECONDS).exists() else {}
    outcomes: dict[str, Outcome] = {}
    with ExperimentProgress(console, len(plan.trials), plan.metric.name) as bars:
        for outcome in executor.run(list(plan.trials.values()), bars.watch):
            trial, text = outcome.trial, ""
            if outcome.error:
                text = f"{shown_point(trial.point)}: failed, {outcome.error}"
            elif outcome.seconds is not None:
                seconds[trial.id] = round(seconds.get(trial.id, 0) + outcome.seconds, 2)
                write_json(out / SECONDS, seconds)
                text = f"{shown_point(trial.point)}: {outcome.seconds:.0f} s"
            outcomes[trial.id] = Outcome(trial, seconds.get(trial.id), outcome.error)
            bars.ended(text)
    return outcomes


def _write(plan: Plan, outcomes: Mapping[str, Outcome], table: Mapping[str, Any], out: Path) -> None:
    write_text(out / "results.jsonl", as_lines(plan, outcomes))
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
    columns = columns_of(table)
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
