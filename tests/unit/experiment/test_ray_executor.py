"""Trials on Ray: a worker or a runner that is killed costs nothing, and what cannot run is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError

from processes import parents_of
from tlvision.experiment.executor import run_trials
from tlvision.experiment.file import ExperimentFile, RaySettings, parse_experiment
from tlvision.experiment.local import LocalExecutor
from tlvision.experiment.plan import Trial, make_plan
from tlvision.experiment.ray_executor import RayExecutor
from tlvision.experiment.run import run_experiment
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
    time.sleep(0.5)
    mark.with_suffix(".saved").touch()
"""
AXES = {
    "rate": {"key": "train.lr", "values": [0.1, 0.2]},
    "seed": {"role": "replicate", "key": "train.seed", "values": [0, 1, 2]},
}
TWO = RaySettings(cpus=0.5, jobs=4)


def experiment() -> ExperimentFile:
    compare = {"against": {"rate": "0.1"}, "resamples": 0}
    return parse_experiment({"base": "base.yaml", "axes": AXES, "compare": compare}, "experiment.yaml")


def trials_of(origin: Path, out: Path) -> list[Trial]:
    return list(make_plan(experiment(), origin, out).trials.values())


class Killing(RayExecutor):
    """Kills, in turn, the worker of a trial, a trial with its worker, and a trial, each when the trial is at work."""

    def __init__(self, word: str, kills: list[Callable[[int, int], list[int]]], **options: Any) -> None:
        super().__init__(TWO, **options)
        self.word, self.kills, self.victims = word, kills, set[int]()

    def ended(self) -> list[Outcome]:
        """Kill before looking."""
        found = {trial: worker for trial, worker in parents_of(self.word).items() if worker not in self.victims}
        if self.kills and found:
            trial, worker = next(iter(found.items()))
            victims = self.kills.pop(0)(trial, worker)
            self.victims |= {*victims, worker}
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
        return super().ended()


def the_worker(trial: int, worker: int) -> list[int]:
    return [worker]


def both(trial: int, worker: int) -> list[int]:
    return [worker, trial]


@pytest.mark.slow
def test_workers_are_killed_and_the_table_is_the_same(origin: Path, tmp_path: Path) -> None:
    expected = run_experiment(experiment(), origin, tmp_path / "reference", executor=LocalExecutor(2, command=FAKE))
    out = tmp_path / "out"
    executor = Killing(str(out / "trials"), [the_worker, both, the_worker], command=FAKE)
    table = run_experiment(experiment(), origin, out, executor=executor)
    assert executor.kills == []
    assert table is not None
    assert expected is not None
    assert [row["values"] for row in table["rows"]] == [row["values"] for row in expected["rows"]]
    assert [path.read_text() for path in (out / "trials").glob("*/steps")] == ["0123456789"] * 6


@pytest.mark.slow
def test_stop_lets_trials_save_and_takes_back_what_waits(origin: Path, tmp_path: Path) -> None:
    trials = tmp_path / "out" / "trials"

    def interrupt(running: list[Trial]) -> None:
        if len(list(trials.glob("*.started"))) == 2:
            raise KeyboardInterrupt

    executor = RayExecutor(RaySettings(cpus=os.cpu_count() / 2), command=(sys.executable, "-c", SLOW))
    with pytest.raises(KeyboardInterrupt):
        list(run_trials(trials_of(origin, tmp_path / "out"), executor, interrupt))
    assert len(list(trials.glob("*.saved"))) == len(list(trials.glob("*.started"))) == 2
    assert parents_of(str(trials)) == {}


@pytest.mark.slow
def test_a_trial_whose_worker_dies_twice_has_failed(origin: Path, tmp_path: Path) -> None:
    trial, *_ = trials_of(origin, tmp_path / "out")
    executor = Killing(str(trial.folder), [both, both], command=(sys.executable, "-c", SLOW))
    (outcome,) = run_trials([trial], executor)
    assert outcome.error == "its Ray worker died twice (WorkerCrashedError); repeat the command to go on"


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_ray_executor import FAKE, TWO, RayExecutor, experiment, run_experiment
run_experiment(experiment(), Path(sys.argv[1]), Path(sys.argv[2]), executor=RayExecutor(TWO, command=FAKE))
"""


@pytest.mark.slow
def test_a_killed_runner_is_repeated_and_nothing_is_trained_twice(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = DRIVER.format(here=str(Path(__file__).parent))
    command = [sys.executable, "-c", driver, str(origin), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runner = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 60
    while not list((out / "trials").glob("*/finished.json")) and time.monotonic() < until:
        time.sleep(0.01)
    runner.kill()
    runner.wait()
    finished = {path: path.stat().st_mtime_ns for path in (out / "trials").glob("*/finished.json")}
    assert 1 <= len(finished) < 6
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    assert [path.read_text() for path in (out / "trials").glob("*/steps")] == ["0123456789"] * 6


@pytest.mark.parametrize(
    ("settings", "machines", "expected"),
    [
        ({}, [{"CPU": 2.0}], 0.0),
        ({}, [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}], 1.0),
        ({"gpus": 0.5}, [{"CPU": 1.0, "GPU": 1.0}], 0.5),
        (
            {"gpus": 1.0},
            [{"CPU": 2.0}],
            "asks for 1 CPU and 1 GPU, but no machine has both: 2 CPU and 0 GPU",
        ),
        (
            {"gpus": 1.0, "cpus": 2.0},
            [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 8.0}],
            "has both: 1 CPU and 8 GPU, 2 CPU and 0 GPU",
        ),
        ({"cpus": 4.0}, [{"CPU": 2.0}], "asks for 4 CPU and 0 GPU"),
    ],
)
def test_a_trial_gets_what_a_machine_has_or_is_refused(
    settings: dict[str, Any], machines: list[dict[str, float]], expected: float | str
) -> None:
    executor = RayExecutor(RaySettings(**settings))
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    executor._ray = SimpleNamespace(nodes=lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}])
    if isinstance(expected, float):
        assert executor._choose_gpus() == expected
    else:
        with pytest.raises(InputError, match=expected):
            executor._choose_gpus()


def test_threads_and_gpus_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = RayExecutor(RaySettings(cpus=3.0), 7)
    assert executor.slots == 7
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert executor._environment() == {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": ""}
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    executor._gpus = 1.0
    assert executor._environment() == {"OMP_NUM_THREADS": "8"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RayTaskError("_run", "", OSError("disk full")), "its Ray task failed, OSError('disk full')"),
        (NodeDiedError("gone"), "its Ray worker died twice (NodeDiedError); repeat the command to go on"),
    ],
)
def test_what_ray_raises_becomes_a_sentence(error: RayError, sentence: str, origin: Path, tmp_path: Path) -> None:
    def fail(task: str) -> Outcome:
        raise error

    trial, *_ = trials_of(origin, tmp_path / "out")
    executor = RayExecutor(RaySettings())
    executor._ray = SimpleNamespace(get=fail, exceptions=ray.exceptions)
    executor._running["task"] = trial
    assert executor._outcome("task") == Outcome(trial, None, sentence)
    trial.folder.mkdir(parents=True)
    (trial.folder / "finished.json").touch()
    executor._running["task"] = trial
    assert executor._outcome("task") == Outcome(trial, None)


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'ray is not installed. Do: pip install "tlvision\[ray\]"'):
        RayExecutor(RaySettings())
