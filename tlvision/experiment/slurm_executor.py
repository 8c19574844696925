"""Run trials as SLURM jobs (submitit, extra `slurm`)."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlvision.experiment.file import SlurmSettings
from tlvision.experiment.plan import Trial
from tlvision.experiment.trial_process import PATIENCE, POLL, TLVISION, Outcome, epochs_of, is_done
from tlvision.types import InputError

LOOK = 0.5
"""Seconds between two looks for the results of jobs, which are files."""
ASK = 30.0
"""Seconds between two questions to SLURM about the state of jobs; the death of one is found so late."""

RETRY = 10.0
"""Seconds after which a job that SLURM has refused is submitted again."""


@dataclass(slots=True)
class _Run:
    """A trial and its job.

    epochs: what the trial had closed when the job was submitted. again: an earlier job was lost.
    """

    trial: Trial
    epochs: int
    again: bool = False
    job: Any = None


class SlurmExecutor:
    """Runs each trial in a SLURM job; the files of the jobs are in `slurm`, beside the folders of the trials.

    The folders of the experiment and of its data lie on a file system that all machines share, under the same path, and
    so does the Python environment. A job that dies, is preempted, or comes to its time limit is followed by another,
    which goes on from the last checkpoint: once, and again whenever a job has closed an epoch. A job that a killed
    runner has left behind is taken over.

    settings: what a job asks for.
    jobs:     replaces the number of jobs that are submitted at a time.
    command:  the words of `tlvision`.
    cluster:  "slurm", or submitit's "local": processes on this machine.

    Raises InputError if submitit is not installed.
    """

    def __init__(
        self,
        settings: SlurmSettings,
        jobs: int | None = None,
        command: Sequence[str] = TLVISION,
        cluster: str = "slurm",
    ) -> None:
        try:
            from tlvision.experiment import slurm_job
        except ImportError:
            raise InputError('executor.slurm: submitit is not installed. Do: pip install "tlvision[slurm]"') from None
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of each question that SLURM does not answer
        self.slots = settings.jobs if jobs is None else jobs
        self._slurm = slurm_job
        self._settings, self._command, self._cluster = settings, command, cluster
        self._waiting: list[_Run] = []
        self._running: list[_Run] = []
        self._looked = self._asked = time.monotonic()
        self._vanished = set[str]()
        self._retry = self._freed = float("-inf")

    def start(self, trial: Trial) -> None:
        """Submit the job of a trial, or take over the one that a killed runner has left behind.

        Raises InputError if SLURM is not there or refuses the job.
        """
        self._waiting.append(_Run(trial, epochs_of(trial.folder)))
        if len(self._waiting) == 1:
            self._submit_waiting()

    def ended(self) -> list[Outcome]:
        """Return how those ended that have ended since the last call."""
        time.sleep(POLL)
        if time.monotonic() < self._looked + LOOK:
            return []
        self._looked = time.monotonic()
        if self._running and self._looked > self._asked + ASK:
            self._asked = self._looked
            jobs = [run.job for run in self._running]
            jobs[0].done(force_check=True)  # one question for all jobs
            self._vanished = {job.job_id for job in jobs if self._slurm.has_vanished(job)}
        outcomes = [outcome for run in list(self._running) if (outcome := self._look(run)) is not None]
        self._submit_waiting()
        return outcomes

    def stop(self) -> None:
        """Take back what waits, and ask the rest to save and end."""
        runs, self._running = self._running, []
        self._waiting.clear()
        jobs = [run.job for run in runs]
        self._slurm.interrupt(jobs)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not all(self._has_saved(run) for run in runs):
            time.sleep(POLL)
        self._slurm.scancel(jobs)
        for run in runs:
            self._slurm.record_of(run.trial).unlink(missing_ok=True)

    def _submit_waiting(self) -> None:
        """Submit what waits; a job that SLURM refuses (a user's limit of jobs) waits until it has room again."""
        while self._waiting and time.monotonic() > self._retry:
            run = self._waiting[0]
            try:
                run.job = self._slurm.left_behind(run.trial)
                run.job = run.job or self._slurm.submit(run.trial, self._settings, self._command, self._cluster)
            except self._slurm.RefusedError as error:
                self._retry = time.monotonic() + RETRY
                if not self._running and time.monotonic() > self._freed + PATIENCE:
                    raise InputError(f"executor.slurm: SLURM refused the job of a trial. {error}") from None
                return
            self._running.append(self._waiting.pop(0))

    def _look(self, run: _Run) -> Outcome | None:
        """Return how a trial ended; None while its job runs, and if another is to follow."""
        job, trial = run.job, run.trial
        if not (job.done() or job.state.startswith("PREEMPTED") or job.job_id in self._vanished):
            return None
        self._running.remove(run)
        self._freed = time.monotonic()
        self._slurm.record_of(trial).unlink(missing_ok=True)
        outcome = self._result(run)
        if is_done(trial):
            return outcome if outcome is not None and not outcome.error else Outcome(trial, None)
        if outcome is not None and outcome.error:
            return outcome
        epochs = epochs_of(trial.folder)
        if run.again and epochs <= run.epochs:
            return Outcome(trial, None, self._problem(job))
        self._slurm.scancel([job])  # SLURM may have put it back into the queue
        self._waiting.append(_Run(trial, epochs, again=True))
        return None

    def _result(self, run: _Run) -> Outcome | None:
        """Return what a job that has ended left of its trial, None if that can go on in another one."""
        job, trial = run.job, run.trial
        if not job.paths.result_pickle.exists():
            if not job.state.startswith("CANCELLED"):
                return None
            return Outcome(trial, None, f"its SLURM job {job.job_id} was cancelled; repeat the command to go on")
        if job.exception() is not None:
            return Outcome(trial, None, f"its SLURM job {job.job_id} failed; see {job.paths.stderr}")
        outcome: Outcome | None = job.result()
        return outcome

    def _has_saved(self, run: _Run) -> bool:
        """Return whether no process has the trial; SLURM itself tells that late."""
        return _is_free(run.trial) and (self._cluster == "slurm" or run.job.done())

    def _problem(self, job: Any) -> str:
        if job.paths.result_pickle.exists():
            minutes = self._settings.minutes
            return f"two SLURM jobs came to their limit of {minutes} minutes in one epoch; raise executor.slurm.minutes"
        return f"two SLURM jobs ended without a result (state {job.state}); see {job.paths.stderr}"


def _is_free(trial: Trial) -> bool:
    """Return whether no process has the lock of a trial."""
    lock = trial.folder.with_suffix(".lock")
    if not lock.exists():
        return True
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
