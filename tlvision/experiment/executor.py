"""Run trials in the order of what they need, on whatever runs them: this machine, a Ray cluster, or SLURM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tlvision.experiment.plan import Trial, shown_point
from tlvision.experiment.trial_process import Outcome, is_done

Watch = Callable[[list[Trial]], None]


class Executor(Protocol):
    """Runs trials, each in a process of its own (`tlvision.experiment.trial_process`).

    slots: trials that it takes at a time.
    """

    slots: int

    def start(self, trial: Trial) -> None:
        """Begin a trial, and return at once."""

    def ended(self) -> list[Outcome]:
        """Return how those ended that have ended since the last call; wait a moment before looking again."""

    def stop(self) -> None:
        """Let every trial save its checkpoint, return when all have ended, and free what runs them."""


def run_trials(trials: Sequence[Trial], executor: Executor, watch: Watch | None = None) -> Iterator[Outcome]:
    """Yield the outcome of each trial as it ends; a trial begins when those that it needs have finished.

    A trial that needs one that failed is not begun: the error of its outcome says so.

    watch: called again and again with the trials that are running.

    Raises KeyboardInterrupt after Ctrl-C, when every trial has saved its last checkpoint and ended. Whoever made the
    executor stops it at the end.
    """
    waiting, running = list(trials), dict[str, Trial]()
    failed: dict[str, Trial] = {}
    try:
        while waiting or running:
            pending = {trial.id for trial in waiting} | running.keys()
            for trial in [trial for trial in waiting if not pending & set(trial.after)]:
                lost = [failed[name] for name in trial.after if name in failed]
                if lost:
                    failed[trial.id] = trial
                    outcome = Outcome(trial, None, f"skipped, because it needs {shown_point(lost[0].point)}")
                elif is_done(trial):
                    outcome = Outcome(trial, None)
                elif len(running) < executor.slots:
                    waiting.remove(trial)
                    running[trial.id] = trial
                    executor.start(trial)
                    continue
                else:
                    break
                waiting.remove(trial)
                yield outcome
            if watch is not None:
                watch(list(running.values()))
            for outcome in executor.ended() if running else ():
                del running[outcome.trial.id]
                if outcome.error:
                    failed[outcome.trial.id] = outcome.trial
                yield outcome
    except BaseException:
        executor.stop()
        raise
