"""Estimate how long an experiment takes, from one epoch of its first trial, which goes on from there later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tlvision.config.schema import Config
from tlvision.experiment.executor import Executor, run_trials
from tlvision.experiment.plan import Plan, Trial
from tlvision.experiment.trial_process import is_done
from tlvision.types import counted


@dataclass(frozen=True, slots=True)
class Pace:
    """What one epoch of a trial took: seconds of its process in all, and of its steps alone; its share of the data."""

    process: float
    epoch: float
    share: float

    def seconds(self, config: Config) -> float:
        """Return the time of a trial of that kind: start and end once, and all its epochs."""
        return self.process - self.epoch + self.epoch * config.train.epochs * share_of(config) / self.share


def probe(plan: Plan, executor: Executor) -> str:
    """Train the first trial for one epoch, and return in a sentence how long all take.

    The time of more than one evaluation in a trial is not in it, nor that of a search.
    """
    waiting = [trial for trial in plan.trials.values() if trial.action == "train" and not is_done(trial)]
    first = next((trial for trial in waiting if not trial.after), None)
    if first is None:
        return "nothing is left to train, so there is nothing to estimate"
    (outcome,) = run_trials([replace(first, until=1)], executor)
    if outcome.error:
        return f"the probe failed: {outcome.error}"
    if outcome.seconds is None:
        return "no estimate: the first trial has been trained for an epoch before"
    pace = Pace(outcome.seconds, epoch_seconds(first.folder), share_of(first.config))
    return sentence(pace, waiting, executor.slots)


def sentence(pace: Pace, trials: Sequence[Trial], slots: int) -> str:
    """Return how long the trials take, so many at a time."""
    total = sum(pace.seconds(trial.config) for trial in trials) / min(slots, len(trials))
    shown = f"{total / 60:.0f} minutes" if total < 7200 else f"{total / 3600:.1f} hours"
    return f"about {shown} for {counted(len(trials), 'trial')}, {slots} at a time (from one epoch of the first)"


def epoch_seconds(run: Path) -> float:
    """Return the time of the steps of a run that was trained for one epoch."""
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [line["images_per_second"] for line in lines if line.get("images_per_second")]
    return float(state["images_seen"]) / rates[-1] if rates else 0.0


def share_of(config: Config) -> float:
    """Return which share of its training images a config uses, as far as it says so; 1 for a number of images."""
    subset = config.data.train.subset
    if subset is None:
        return 1.0
    if subset.fold is not None:
        return 1 - 1 / subset.fold[1]
    return subset.fraction or 1.0
