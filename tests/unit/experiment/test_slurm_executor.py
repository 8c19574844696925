"""Trials as SLURM jobs, with a stand-in for SLURM: jobs that die are followed by others, and none runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fake_slurm
from processes import parents_of
from tlvision.experiment.executor import run_trials
from tlvision.experiment.file import ExperimentFile, SlurmSettings, parse_experiment
from tlvision.experiment.local import LocalExecutor
from tlvision.experiment.plan import Trial, make_plan
from tlvision.experiment.run import run_experiment
from tlvision.experiment.slurm_executor import SlurmExecutor
from tlvision.experiment.trial_process import Outcome
from tlvision.types import InputError

FAKE = (sys.executable, str(Path(__file__).parents[2] / "helpers" / "fake_trial.py"))
SLOW = """
import pathlib, sys, time
mark = pathlib.Path(sys.argv[-1])
try:
    mark.with_suffix(".started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1.5 if "seed: 1" in mark.read_text() else 0.5)
    mark.with_suffix(".saved").touch()
"""
ONE_EPOCH_A_JOB = """
import json, pathlib, sys, time
run = pathlib.Path(sys.argv[-1]).with_suffix("")
state = run / "checkpoints" / "last" / "state.json"
state.parent.mkdir(parents=True, exist_ok=True)
(run / "config.yaml").touch()
epochs = 1 + (json.loads(state.read_text())["closed_epochs"] if state.exists() else 0)
state.write_text(json.dumps({"closed_epochs": epochs}))
if epochs == 3:
    (run / "finished.json").touch()
else:
    run.with_suffix(".started").touch()
    time.sleep(60)
"""
AXES = {
    "rate": {"key": "train.lr", "values": [0.1, 0.2]},
    "seed": {"role": "replicate", "key": "train.seed", "values": [0, 1, 2]},
}
SETTINGS = SlurmSettings(gpus=0, cpus=1)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jobs of a SLURM that runs two at a time."""
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "slurm" / "jobs"


def experiment() -> ExperimentFile:
    compare = {"against": {"rate": "0.1"}, "resamples": 0}
    return parse_experiment({"base": "base.yaml", "axes": AXES, "compare": compare}, "experiment.yaml")


def trials_of(origin: Path) -> list[Trial]:
    return list(make_plan(experiment(), origin, origin.parent / "out").trials.values())


def steps_of(out: Path) -> list[str]:
    return [path.read_text() for path in (out / "trials").glob("*/steps")]


def states(slurm: Path) -> list[str]:
    return [fake_slurm.state_of(job) for job in sorted(slurm.iterdir())]


class Disturbed(SlurmExecutor):
    """Does something, in turn, to trials and the tasks of their jobs: once to each, or whenever one has a mark."""

    def __init__(self, acts: list[Callable[[int, int], None]], marks: bool = False, **options: Any) -> None:
        super().__init__(SETTINGS, **options)
        self.acts, self.marks, self.met = acts, marks, set[str]()

    def ended(self) -> list[Outcome]:
        """Act before looking."""
        for trial in [run.trial for run in self._running if self.acts and run.trial.id not in self.met]:
            mark = trial.folder.with_suffix(".started")
            found = {one: task for one, task in parents_of(str(trial.folder)).items() if "submitit" in command_of(task)}
            if found and self.acts and (mark.exists() or not self.marks):
                self.acts.pop(0)(*found.popitem())
                mark.unlink(missing_ok=True)
                self.met |= set() if self.marks else {trial.id}
        return super().ended()


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def kill_task(trial: int, task: int) -> None:
    os.kill(task, signal.SIGKILL)


def kill_both(trial: int, task: int) -> None:
    os.kill(task, signal.SIGKILL)
    os.kill(trial, signal.SIGKILL)


def time_up(trial: int, task: int) -> None:
    os.kill(task, signal.SIGUSR2)


def slow_executor(*acts: Callable[[int, int], None], script: str = SLOW) -> Disturbed:
    return Disturbed(list(acts), marks=True, command=(sys.executable, "-c", script))


def test_jobs_ask_for_what_the_file_says(origin: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    parameters: dict[str, Any] = {"account": "mine", "mem": "16G", "requeue": True, "exclusive": False}
    settings = SlurmSettings(partition="fast", gpus=2, cpus=3, minutes=90, parameters=parameters)
    script = 'import os, sys, pathlib; print("error:", os.environ["OMP_NUM_THREADS"], "threads"); sys.exit(1)'
    trial, *_ = trials_of(origin)
    (outcome,) = run_trials([trial], SlurmExecutor(settings, command=(sys.executable, "-c", script)))
    assert outcome.error == "3 threads"
    (job,) = slurm.iterdir()
    lines = {line.removeprefix("#SBATCH --") for line in (job / "script").read_text().splitlines()}
    assert lines >= {"partition=fast", "gpus-per-node=2", "cpus-per-task=3", "time=90", "account=mine", "mem=16G"}
    assert lines >= {"requeue", f"job-name=tlvision-{trial.id}", "signal=USR2@120"}
    assert not any("exclusive" in line for line in lines)
    assert list((trial.folder.parent / "slurm").glob("*_result.pkl"))
    assert not trial.folder.with_suffix(".job").exists()


@pytest.mark.slow
def test_tasks_are_killed_and_the_table_is_the_same(origin: Path, slurm: Path, tmp_path: Path) -> None:
    expected = run_experiment(experiment(), origin, tmp_path / "reference", executor=LocalExecutor(2, command=FAKE))
    out = tmp_path / "out"
    executor = Disturbed([kill_task, kill_both, time_up], command=FAKE)
    table = run_experiment(experiment(), origin, out, executor=executor)
    assert executor.acts == []
    assert table is not None
    assert expected is not None
    assert [row["values"] for row in table["rows"]] == [row["values"] for row in expected["rows"]]
    assert steps_of(out) == ["0123456789"] * 6
    assert not list((out / "trials").glob("*.job"))


@pytest.mark.slow
def test_a_dead_job_is_found_without_accounting(
    origin: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_SLURM_ACCOUNTING", "none")
    monkeypatch.setattr("tlvision.experiment.slurm_executor.ASK", 0.5)
    trial, *_ = trials_of(origin)
    (outcome,) = run_trials([trial], slow_executor(kill_both, kill_both))
    assert outcome.error.startswith("two SLURM jobs ended without a result (state UNKNOWN)")
    assert "Bypassing" not in capfd.readouterr().err


@pytest.mark.slow  # waits for jobs
def test_local_jobs_of_submitit(origin: Path) -> None:
    trials = trials_of(origin)[:2]
    outcomes = list(run_trials(trials, SlurmExecutor(SETTINGS, 2, FAKE, "local")))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert all(outcome.seconds for outcome in outcomes)
    assert steps_of(origin.parent / "out") == ["0123456789"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_stop_lets_trials_save_and_takes_back_what_waits(cluster: str, origin: Path, slurm: Path) -> None:
    trials = trials_of(origin)[: 3 if cluster == "slurm" else 2]
    folder = trials[0].folder.parent

    def interrupt(running: list[Trial]) -> None:
        if len(list(folder.glob("*.started"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_trials(trials, SlurmExecutor(SETTINGS, 3, (sys.executable, "-c", SLOW), cluster), interrupt))
    assert len(list(folder.glob("*.saved"))) == len(list(folder.glob("*.started"))) == 2
    assert not list(folder.glob("*.job"))
    if cluster == "slurm":
        assert states(slurm).count("CANCELLED by 0") >= 1
        assert not {"PENDING", "RUNNING"} & set(states(slurm))
        assert len(list(slurm.glob("*/task"))) == 2


@pytest.mark.slow  # waits for jobs
def test_a_job_that_the_user_cancels_is_not_submitted_again(origin: Path, slurm: Path) -> None:
    trial, *_ = trials_of(origin)

    def cancel(_: int, task: int) -> None:
        (job,) = slurm.iterdir()
        subprocess.run(["scancel", job.name], check=True)

    (outcome,) = run_trials([trial], slow_executor(cancel))
    (job,) = slurm.iterdir()
    assert outcome.error == f"its SLURM job {job.name} was cancelled; repeat the command to go on"
    until = time.monotonic() + 30
    while not trial.folder.with_suffix(".saved").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_second_job_is_the_last_one_without_a_new_epoch(origin: Path, slurm: Path) -> None:
    died, late, *_ = trials_of(origin)
    (outcome,) = run_trials([died], slow_executor(kill_both, kill_both))
    assert outcome.error.startswith("two SLURM jobs ended without a result (state FAILED); see ")
    (outcome,) = run_trials([late], slow_executor(time_up, time_up))
    assert late.folder.with_suffix(".saved").exists()
    assert outcome.error == (
        "two SLURM jobs came to their limit of 240 minutes in one epoch; raise executor.slurm.minutes"
    )
    assert len(states(slurm)) == 4


@pytest.mark.slow
def test_jobs_follow_each_other_as_long_as_epochs_are_closed(origin: Path, slurm: Path) -> None:
    trial, *_ = trials_of(origin)
    (outcome,) = run_trials([trial], slow_executor(kill_both, time_up, script=ONE_EPOCH_A_JOB))
    assert outcome.error == ""
    assert len(states(slurm)) == 3


@pytest.mark.slow
def test_a_preempted_job_is_followed_by_another(origin: Path, slurm: Path) -> None:
    trial, *_ = trials_of(origin)

    def preempt(worker: int, task: int) -> None:
        (job,) = slurm.iterdir()
        fake_slurm.set_state(job, "PREEMPTED")
        os.kill(task, signal.SIGTERM)

    (outcome,) = run_trials([trial], slow_executor(preempt, kill_both, script=ONE_EPOCH_A_JOB))
    assert outcome.error == ""
    assert states(slurm)[0] == "PREEMPTED"
    assert len(states(slurm)) == 3


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = {folders!r}
from test_slurm_executor import FAKE, SETTINGS, SlurmExecutor, experiment, run_experiment
run_experiment(experiment(), Path(sys.argv[1]), Path(sys.argv[2]), executor=SlurmExecutor(SETTINGS, command=FAKE))
"""


@pytest.mark.slow
def test_the_jobs_of_a_killed_runner_are_taken_over(origin: Path, slurm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = DRIVER.format(folders=[str(Path(__file__).parent), str(Path(__file__).parents[2] / "helpers")])
    command = [sys.executable, "-c", driver, str(origin), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runner = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 60
    while len(list((out / "trials").glob("*.job"))) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    runner.kill()
    runner.wait()
    assert states(slurm).count("PENDING") >= 2
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert steps_of(out) == ["0123456789"] * 6
    assert states(slurm) == ["COMPLETED"] * 6


def test_a_number_that_is_now_another_job_is_not_taken_over(origin: Path, slurm: Path) -> None:
    trial, other, *_ = trials_of(origin)
    executor = SlurmExecutor(SETTINGS, command=(sys.executable, "-c", SLOW))
    executor.start(other)
    number = other.folder.with_suffix(".job").read_text()
    trial.folder.with_suffix(".job").write_text(number)
    executor.start(trial)
    assert trial.folder.with_suffix(".job").read_text() != number
    executor.stop()
    assert len(states(slurm)) == 2


@pytest.mark.slow  # waits for jobs
def test_what_slurm_refuses_waits_until_it_has_room(
    origin: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_SLURM_LIMIT", "1")
    monkeypatch.setenv("FAKE_SLURM_LINGER", "1")
    monkeypatch.setattr("tlvision.experiment.slurm_executor.RETRY", 0.2)
    outcomes = list(run_trials(trials_of(origin)[:2], SlurmExecutor(SETTINGS, command=FAKE)))
    assert [outcome.error for outcome in outcomes] == [""] * 2
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("FAKE_SLURM_LIMIT", "0")
    with pytest.raises(
        InputError, match=r"SLURM refused the job of a trial. sbatch: error: QOSMaxSubmitJobPerUserLimit"
    ):
        list(run_trials(trials_of(origin)[3:4], SlurmExecutor(SETTINGS, command=FAKE)))


def test_without_slurm_the_remedy_is_named(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"no sbatch on the PATH. Run the command where SLURM takes jobs"):
        SlurmExecutor(SETTINGS).start(trials_of(origin)[0])


def test_without_submitit_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tlvision import experiment as package

    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "tlvision.experiment.slurm_job", raising=False)
    monkeypatch.delattr(package, "slurm_job", raising=False)
    with pytest.raises(InputError, match=r'submitit is not installed. Do: pip install "tlvision\[slurm\]"'):
        SlurmExecutor(SETTINGS)
