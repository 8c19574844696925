from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tlvision.hooks import Duration
from tlvision.hooks.observers.log import Log


def make_context(folder: Path, step: int = 0) -> Any:
    return SimpleNamespace(
        run_dir=folder, is_main=True, step=step, epoch=step // 2, progress=step / 4, duration=Duration(2, 2), lr=0.1,
        losses={"box": 1.0, "cls": 0.5}, losses_mean={"box": 1.2, "cls": 0.6}, images_seen=4 * step,
        metrics={"bbox/AP": 0.25}, select="bbox/AP", best=0.3, notices=[], measures={},
    )  # fmt: skip


def run(hook: Log, folder: Path, steps: range) -> None:
    hook.before_fit(make_context(folder, steps.start))
    hook.before_epoch(make_context(folder, steps.start))
    for step in steps:
        hook.after_step(make_context(folder, step + 1))
        if (step + 1) % 2 == 0:
            hook.after_evaluation(make_context(folder, step + 1))
            hook.after_epoch(make_context(folder, step + 1))
    hook.close()


def test_lines_and_a_machine_readable_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Log(every=1, progress="lines", tensorboard="off"), tmp_path, range(4))
    text = capsys.readouterr().out.splitlines()
    assert len(text) == 2
    assert text[1].startswith("epoch 2/2  box 1.200  cls 0.600  bbox/AP 0.2500 (best 0.3000)")
    assert text[0].endswith("left")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [(line["step"], line["epoch"]) for line in steps] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert steps[0]["losses"] == {"box": 1.0, "cls": 0.5}
    assert steps[0]["loss"] == 1.5
    assert [line["metrics"] for line in lines if line["kind"] == "evaluation"] == [{"bbox/AP": 0.25}] * 2


def test_a_resumed_run_has_each_step_once_in_its_log(tmp_path: Path) -> None:
    run(Log(every=1, progress="none", tensorboard="off"), tmp_path, range(3))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # the half line of a killed process
    run(Log(every=1, progress="none", tensorboard="off"), tmp_path, range(2, 4))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3, 4]


def test_a_bar_shows_rate_time_left_losses_and_ap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    run(Log(progress="bar", tensorboard="off"), tmp_path, range(4))
    text = capsys.readouterr().out
    for expected in ("epoch 2/2  bbox/AP 0.250", "4/4", "img/s", "box 1.200  cls 0.600"):
        assert expected in text


def test_tensorboard_files_are_written_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(Log(progress="none"), tmp_path, range(2))
    assert list((tmp_path / "tensorboard").glob("events*"))
