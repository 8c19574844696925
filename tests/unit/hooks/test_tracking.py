"""What both trackers promise, with one that keeps its records in memory."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tlvision
from fast import first_fast
from interrupt import interrupted
from tlvision.config.schema import EvaluateSettings
from tlvision.engine import compatibility
from tlvision.engine.compatibility import check_packages
from tlvision.hooks import Duration, registry, tracking
from tlvision.hooks.observers.mlflow import Mlflow
from tlvision.hooks.observers.wandb import Wandb
from tlvision.hooks.tracking import RunRecord, TrackerHook
from tlvision.types import InputError


class Memory:
    """A run of a tracker. fail: the name of the call that raises."""

    def __init__(self, record: RunRecord, fail: str) -> None:
        self.record, self.fail, self.notice = record, fail, ""
        self.calls: list[tuple[Any, ...]] = []

    def _call(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] == self.fail:
            raise ConnectionError("no route to the server")

    def log(self, values: Any, step: int) -> None:
        self._call("log", step, values)

    def summarise(self, values: Any, texts: Any) -> None:
        self._call("summarise", values, texts)

    def upload(self, paths: Any) -> None:
        self._call("upload", [path.name for path in paths])

    def finish(self, status: str) -> None:
        self._call("finish", status)


class MemoryTracker(TrackerHook):
    """Keep records in memory."""

    title = "the tracker"
    variables = ("MEMORY_TRACKER",)
    runs: list[Memory]
    gate: threading.Event | None = None

    def __init__(
        self, *, every: int = 1, fail: str = "", artifacts: bool = False, checkpoint: bool = False, notice: str = ""
    ) -> None:
        self.every, self.fail, self.artifacts, self.checkpoint = every, fail, artifacts, checkpoint
        self.notice = notice

    def open_run(self, record: RunRecord) -> Memory:
        if self.gate is not None:
            self.gate.wait(20)
        if self.fail == "open":
            raise ConnectionError("no route to the server")
        os.environ["MEMORY_TRACKER"] = "a service"
        record.remember(record.run_id or "run7")
        run = Memory(record, self.fail)
        run.notice = self.notice
        self.runs.append(run)
        return run


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryTracker, "runs", [], raising=False)
    monkeypatch.setitem(registry.BUILT_IN, "memory_tracker", f"{__name__}:MemoryTracker")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(MemoryTracker=MemoryTracker))


def make_context(folder: Path, step: int = 0, notices: list[str] | None = None) -> Any:
    return SimpleNamespace(
        run_dir=folder, is_main=True, step=step, duration=Duration(2, 3), lr=0.1, losses={"box": 1.0, "cls": 0.5},
        metrics={"bbox/AP": step / 10}, select="bbox/AP", gain=lambda value, over: value - over,
        notices=[] if notices is None else notices, measures={"share": 0.25},
    )  # fmt: skip


def run_steps(hook: TrackerHook, folder: Path, steps: int = 6) -> list[str]:
    """Call the moments of a run of two epochs of three steps; return the notices."""
    (folder / "config.yaml").write_text(
        "train: {lr: 0.1, tags: [a, b], none: {}}\nhooks: [{ema: {decay: 0.9}}, {mlflow: {x: 1}}]"
    )
    notices: list[str] = []
    hook.before_fit(make_context(folder, 0, notices))
    for step in range(1, steps + 1):
        hook.after_step(make_context(folder, step, notices))
        if step % 3 == 0:
            hook.after_evaluation(make_context(folder, step, notices))
    hook.after_fit(make_context(folder, steps, notices))
    hook.close()
    return notices


def test_records_are_sent_in_order(tmp_path: Path) -> None:
    hook = MemoryTracker(every=2)
    assert run_steps(hook, tmp_path) == []
    assert "MEMORY_TRACKER" not in os.environ
    (run,) = MemoryTracker.runs
    step = {"lr": 0.1, "total_loss": 1.5, "loss/box": 1.0, "loss/cls": 0.5, "share": 0.25}
    assert run.calls[:3] == [("log", 2, step), ("log", 3, step), ("log", 3, {"bbox/AP": 0.3})]
    assert [call[1] for call in run.calls if call[0] == "log"] == [2, 3, 3, 4, 6, 6]
    name, values, texts = run.calls[-2]
    assert (name, values) == ("summarise", {"best/bbox/AP": 0.6, "best/step": 6.0})
    assert texts["path/best"] == str(tmp_path / "checkpoints" / "best")
    assert run.calls[-1] == ("finish", "finished")
    assert run.record.config == {
        "train.lr": 0.1,
        "train.tags": '["a", "b"]',
        "train.none": "{}",
        "hooks.ema.decay": 0.9,
    }


def test_only_the_main_process_sends(tmp_path: Path) -> None:
    hook = MemoryTracker()
    context = make_context(tmp_path)
    context.is_main = False
    (tmp_path / "config.yaml").write_text("{}")
    hook.before_fit(context)
    hook.after_step(make_context(tmp_path, 1))
    hook.close()
    assert not MemoryTracker.runs
    assert not context.notices
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("fail", first_fast(["open", "log"]))
def test_an_error_is_one_notice(fail: str, tiny_config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tiny_config["hooks"].insert(0, {"memory_tracker": {"fail": fail}})
    tiny_config["data"]["workers"] = 0
    result = tlvision.train(tiny_config)
    assert result.metrics["bbox"]
    lines = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    notices = [line["text"] for line in lines if line["kind"] == "notice" and "memory_tracker" in line["text"]]
    printed = [line for line in capsys.readouterr().out.splitlines() if "memory_tracker: " in line]
    assert len([*notices, *printed]) == 1
    assert "cannot be written to (ConnectionError: no route to the server). Training goes on" in [*notices, *printed][0]
    assert fail == "open" or MemoryTracker.runs[0].calls[-1] == ("finish", "failed")


@pytest.mark.parametrize("fail", ["summarise", "finish"])
def test_an_error_at_the_end_is_printed(fail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_steps(MemoryTracker(fail=fail), tmp_path) == []
    assert capsys.readouterr().out.count("no route to the server") == 1


def test_a_notice_of_the_tracker_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hook, notices = MemoryTracker(notice="The server is away."), list[str]()
    (tmp_path / "config.yaml").write_text("{}")
    hook.before_fit(make_context(tmp_path, 0, notices))
    until = time.monotonic() + 20
    for step in (1, 2):
        hook.after_step(make_context(tmp_path, step, notices))
        while not (MemoryTracker.runs and MemoryTracker.runs[0].calls) and time.monotonic() < until:
            time.sleep(0.01)  # the run is open when the first call arrives
    hook.after_step(make_context(tmp_path, 3, notices))
    hook.close()
    assert notices == ["memory_tracker: The server is away."]
    assert capsys.readouterr().out == ""


def test_a_tracker_that_hangs_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(MemoryTracker, "gate", gate)
    monkeypatch.setattr(tracking, "SECONDS", 0.1)
    started = time.monotonic()
    assert run_steps(MemoryTracker(), tmp_path) == []
    assert time.monotonic() - started < 3
    assert "did not answer for 0.1 s" in capsys.readouterr().out
    gate.set()
    # The thread goes on, and must not write into the runs of the next test.
    while any(thread.name == "tlvision-tracker" for thread in threading.enumerate()):
        assert time.monotonic() - started < 20
        time.sleep(0.01)


@pytest.mark.parametrize(("error", "status"), [(False, "interrupted"), (True, "failed")])
def test_close_after_an_end_in_the_middle(error: bool, status: str, tmp_path: Path) -> None:
    hook = MemoryTracker()
    hook.close()  # before anything was opened
    (tmp_path / "config.yaml").write_text("{}")
    hook.before_fit(make_context(tmp_path))
    try:
        if error:
            raise RuntimeError("in a step")
    except RuntimeError:
        hook.close()
    else:
        hook.close()
    hook.close()
    assert MemoryTracker.runs[0].calls == [("finish", status)]


def test_a_resumed_run_has_the_same_id_and_the_best_so_far(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].insert(0, "memory_tracker")
    tiny_config["train"]["epochs"] = 3
    tiny_config["data"]["workers"] = 0
    with interrupted(7):
        tlvision.train(tiny_config)
    result = tlvision.train({}, resume=tiny_config["run"]["out"])
    first, second = MemoryTracker.runs
    assert (first.record.run_id, second.record.run_id) == (None, "run7")
    assert [run.calls[-1] for run in (first, second)] == [("finish", "interrupted"), ("finish", "finished")]
    logged = [call[1] for run in (first, second) for call in run.calls if call[0] == "log" and "lr" in call[2]]
    assert logged == list(range(1, 10))
    values = second.calls[-2][1]
    assert values["best/bbox/AP"] == result.metrics["bbox"]["AP"]
    evaluations = [call for run in (first, second) for call in run.calls if call[0] == "log" and "lr" not in call[2]]
    best = max(evaluations, key=lambda call: call[2]["bbox/AP"])
    assert values["best/step"] == best[1]


def test_artifacts_are_sent_when_the_folder_is_complete(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].insert(0, {"memory_tracker": {"artifacts": True, "checkpoint": True}})
    tiny_config["run"]["report"] = True
    tiny_config["train"]["epochs"] = 1
    tiny_config["data"]["workers"] = 0
    tlvision.train(tiny_config)
    _, after = MemoryTracker.runs
    files = ["report.html", "metrics.json", "thresholds.json", "best"]
    assert after.calls == [("upload", files), ("finish", "finished")]
    assert after.record.run_id == "run7"


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both packages are missing, and a folder has the name of one."""
    specs = {"wandb": ModuleSpec("wandb", None, is_package=True)}
    monkeypatch.setattr(compatibility, "find_spec", specs.get)
    return


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_an_error_before_images_are_read(
    name: str, tiny_config: dict[str, Any], without_packages: None
) -> None:
    tiny_config["hooks"].insert(0, name)
    tiny_config["data"]["train"]["json"] = "does-not-exist.json"
    with pytest.raises(InputError, match=rf'needs the package \'{name}\'.*pip install "tlvision\[{name}\]"'):
        tlvision.train(tiny_config)


def test_a_hook_that_is_disabled_needs_no_package(without_packages: None, tmp_path: Path) -> None:
    hook = Wandb(mode="disabled", artifacts=True)
    check_packages([hook], EvaluateSettings())
    assert run_steps(hook, tmp_path) == []
    hook.after_run(make_context(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    with pytest.raises(InputError):
        check_packages([Mlflow()], EvaluateSettings())
