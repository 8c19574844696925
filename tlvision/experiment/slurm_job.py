"""The SLURM job of one trial: how it is submitted, taken back, and what runs in it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from tlvision.experiment.file import SlurmSettings
from tlvision.experiment.plan import Trial
from tlvision.experiment.trial_process import PATIENCE, Outcome, run_to_end
from tlvision.files.json_files import write_text
from tlvision.types import InputError

_COMMANDS = ("sbatch", "srun", "scancel", "squeue", "sacct")


class RefusedError(Exception):
    """SLURM does not take a job."""


def submit(trial: Trial, settings: SlurmSettings, command: Sequence[str], cluster: str) -> Any:
    """Submit the job of a trial, record its number, and return it.

    Raises InputError if SLURM is not there, RefusedError with its words if it does not take the job.
    """
    missing = [name for name in _COMMANDS if cluster == "slurm" and not shutil.which(name)]
    if missing:
        raise InputError(f"executor.slurm: no {missing[0]} on the PATH. Run the command where SLURM takes jobs.")
    executor = submitit.AutoExecutor(_folder(trial), cluster=cluster)
    executor.update_parameters(
        name=_name(trial),
        timeout_min=settings.minutes,
        cpus_per_task=settings.cpus,
        gpus_per_node=settings.gpus or None,
        slurm_partition=settings.partition,
        slurm_signal_delay_s=int(min(PATIENCE, 15 * settings.minutes)),
        slurm_additional_parameters={key: value for key, value in settings.parameters.items() if value is not False},
    )
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(settings.cpus)}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the exception has the text too
            job = executor.submit(run_in_job, trial, environment, command, str(Path.cwd()))
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise RefusedError(str(error)) from None
    write_text(record_of(trial), f"{job.job_id}\n")
    return job


def left_behind(trial: Trial) -> Any:
    """Return the job that a killed runner has submitted for a trial, None if SLURM does not have it any more."""
    if not record_of(trial).exists():
        return None
    number = record_of(trial).read_text(encoding="utf-8").strip()
    return submitit.SlurmJob(_folder(trial), number) if _queued(number) == _name(trial) else None


def has_vanished(job: Any) -> bool:
    """Return whether SLURM has no such job any more: all that one without accounting tells of a job that died."""
    return isinstance(job, submitit.SlurmJob) and job.state == "UNKNOWN" and _queued(job.job_id) == ""


def interrupt(jobs: Sequence[Any]) -> None:
    """Take back the jobs that wait, and let the trials of the others save and end."""
    scancel(jobs, "--state=PENDING")
    scancel(jobs, "--signal=TERM")  # without a signal, SLURM kills what has not saved within 30 s
    for job in jobs:
        if isinstance(job, submitit.LocalJob):
            job.cancel()


def scancel(jobs: Sequence[Any], *options: str) -> None:
    """Call scancel for jobs; those that have ended are left alone."""
    numbers = [job.job_id for job in jobs if isinstance(job, submitit.SlurmJob)]
    if numbers:
        subprocess.run(["scancel", *options, *numbers], capture_output=True, check=False)


def record_of(trial: Trial) -> Path:
    """Return the file with the number of the job of a trial."""
    return trial.folder.with_suffix(".job")


def run_in_job(trial: Trial, environment: dict[str, str], command: Sequence[str], folder: str) -> Outcome | None:
    """Run a trial in the job, in the folder of the runner; return None if the job's time is up.

    scancel ends it with KeyboardInterrupt. Either way the trial saves first.
    """
    time_up = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
    numbers = (signal.SIGINT, signal.SIGTERM, time_up)

    def end(number: int, _: object) -> None:
        for each in numbers:  # a second signal must not end the saving
            signal.signal(each, signal.SIG_IGN)
        raise TimeoutError if number == time_up else KeyboardInterrupt

    for each in numbers:
        signal.signal(each, end)
    os.chdir(folder)
    try:
        return run_to_end(trial, environment, command)
    except TimeoutError:
        return None


def _name(trial: Trial) -> str:
    return f"tlvision-{trial.id}"


def _folder(trial: Trial) -> Path:
    return trial.folder.parent / "slurm"


def _queued(number: str) -> str | None:
    """Return the name of a job that waits or runs, "" if there is none of that number, None without an answer."""
    words = ["squeue", "--noheader", "--format=%j", f"--jobs={number}"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 or "Invalid job id" in answer.stderr else None
