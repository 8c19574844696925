"""A run's folder: who gets it, what names it, what is left after Ctrl-C, and a start before the first checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import tlvision
from launch import run_script
from tlvision.config.schema import Config
from tlvision.engine.run_folder import new_folder
from tlvision.files.atomic import atomic_file, atomic_folder, copy_folder, find_folder, recover_folder
from tlvision.files.json_files import read_object, write_json, write_text
from tlvision.types import InputError, RunError

FABRIC: Any = SimpleNamespace(is_global_zero=True, broadcast=lambda value, src: value)


def test_runs_that_start_together_get_a_folder_each(tmp_path: Path) -> None:
    for existing in (False, True):
        out = tmp_path / f"run{existing}"
        if existing:
            out.mkdir()  # an empty folder is claimed as well, by one of them
        barrier = threading.Barrier(16)
        taken: list[Path] = []

        def start(out: Path = out, barrier: threading.Barrier = barrier, taken: list[Path] = taken) -> None:
            barrier.wait()
            taken.append(new_folder(out, FABRIC, "x"))

        threads = [threading.Thread(target=start) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(taken)) == 16
        assert {path.name for path in taken} == {out.name, *(f"{out.name}-{n}" for n in range(2, 17))}


def test_a_folder_that_is_taken_in_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run claims the folder after this one has seen that it is empty."""
    real, other = Path.iterdir, list[Path]()

    def slow(self: Path) -> Any:
        entries = list(real(self))
        if not other:
            other.append(Path())
            other[0] = new_folder(tmp_path / "run", FABRIC, "theirs")
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", slow)
    assert new_folder(tmp_path / "run", FABRIC, "ours") == tmp_path / "run-2"
    assert other == [tmp_path / "run"]
    assert (tmp_path / "run" / "config.yaml").read_text() == "theirs"


@pytest.mark.slow
def test_two_commands_that_start_together(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    tiny_config["run"]["report"] = True
    path.write_text(yaml.safe_dump(tiny_config))
    command = [sys.executable, "-m", "tlvision.cli.main", "train", str(path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    for run in (tmp_path / "run", tmp_path / "run-2"):
        steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
        assert steps == sorted(steps)
        assert (run / "report.html").exists()


@pytest.mark.parametrize(
    "out", ["", " ", ".", "..", "/", "a\0b", "x" * 300, "file", "file/below", "/proc/no", "a/" * 3000]
)
def test_an_unusable_folder_is_refused(
    tiny_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"run\.out"):
        new_folder(out, FABRIC, "x")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_foreign_files_stay_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "photo.jpg").write_text("mine")
    assert new_folder(tmp_path / "run", FABRIC) == tmp_path / "run-2"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["photo.jpg"]


def test_the_other_processes_hear_of_the_problem() -> None:
    other: Any = SimpleNamespace(is_global_zero=False, broadcast=lambda value, src: ("", "run.out: no"))
    with pytest.raises(InputError, match=r"run\.out: no"):
        new_folder("x", other)


def test_a_run_that_cannot_start_leaves_its_folder_free(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """A hook that is named twice is refused when the file is read, and with a Config made in Python by the session."""
    tiny_config["hooks"] = ["ema", "ema"]
    with pytest.raises(InputError, match="'ema' is given twice"):
        tlvision.train(tiny_config)
    with pytest.raises(InputError, match="more than once"):
        tlvision.train(Config.model_validate(tiny_config))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), ValueError])
def test_no_temporary_file_stays(tmp_path: Path, error: Any) -> None:
    write_text(tmp_path / "a.txt", "old")

    def break_off(target: Any, half: Any) -> None:
        with target as writing:
            half(writing)
            raise error

    with pytest.raises((KeyboardInterrupt, OSError, ValueError)):
        break_off(atomic_file(tmp_path / "a.txt"), lambda file: file.write(b"half"))
    with pytest.raises((KeyboardInterrupt, RunError, ValueError)):
        break_off(atomic_folder(tmp_path / "folder"), lambda folder: (folder / "half").write_text("half"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_everything_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def flush(descriptor: int) -> None:
        events.append(f"flush {Path(f'/proc/self/fd/{descriptor}').resolve().name}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    write_json(tmp_path / "a.json", {"x": 1})
    assert [event.split()[0] for event in events] == ["flush", "rename", "flush"]
    events.clear()
    with atomic_folder(tmp_path / "whole") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "part").write_text("x")
    first = events.index("rename")
    assert {"flush part", "flush deep", "flush .whole.new"} <= set(events[:first])
    assert events[-1] == f"flush {tmp_path.name}"


def test_a_new_file_has_the_usual_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the mask of the process is left alone"))
    write_text(tmp_path / "ours", "x")
    (tmp_path / "usual").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_nan_in_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    write_json(path, {"a": [float("nan"), (float("inf"), 1.5)]}, nan="null")
    assert json.loads(path.read_text()) == {"a": [None, [None, 1.5]]}
    write_json(path, {"a": float("-inf")}, nan="keep")
    assert read_object(path, "") == {"a": float("-inf")}


def test_a_folder_in_the_middle_of_an_exchange_is_found(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x").write_text("x")
    copy_folder(tmp_path / "source", tmp_path / "last")
    (tmp_path / "last").rename(tmp_path / ".last.old")
    assert find_folder(tmp_path / "last") == tmp_path / ".last.old"
    assert recover_folder(tmp_path / "last") == tmp_path / "last"
    assert (tmp_path / "last" / "x").read_text() == "x"


def test_a_best_checkpoint_in_the_middle_of_an_exchange_serves_every_command(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    """Only `.best.old` is left: `load` and `--resume` follow one rule, and the run ends with its results."""
    tiny_config["train"]["epochs"] = 1
    run = tlvision.train(tiny_config).run
    best = run / "checkpoints" / "best"
    for command in ("load", "resume"):
        best.rename(best.with_name(".best.old"))
        if command == "load":
            tlvision.load(run)
            best.with_name(".best.old").rename(best)
        else:
            (run / "metrics.json").unlink()
            tlvision.train({}, resume=run)
            assert (run / "metrics.json").is_file()
            assert best.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("options", ["{}", "{every_steps: 50}"])
def test_a_run_killed_before_its_first_checkpoint_starts_again(
    tiny_config: dict[str, Any], tmp_path: Path, options: str, tl: Any
) -> None:
    tiny_config["train"]["epochs"] = 1
    tiny_config["hooks"] += [{"checkpoint": yaml.safe_load(options)}]
    tiny_config["data"]["batch"]["labelled"] = 1
    tiny_config["run"]["report"] = True
    (tmp_path / "killed.py").write_text(
        "import json, os, signal, sys\nfrom tlvision.engine import train as runs\n"
        "runs._fit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nruns.train(json.loads(sys.argv[1]))\n"
    )
    assert run_script(tmp_path / "killed.py", json.dumps(tiny_config)).returncode == -9
    assert (tmp_path / "run" / "ledger.json").exists()
    assert not (tmp_path / "run/checkpoints/last").exists()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1, "epoch": 1, "kind": "step"}\n{"half')
    done = tl("train", "--resume", tmp_path / "run", "--set", "train.epochs=1")
    assert done.code == 0, done.text
    assert "has no checkpoint yet: nothing to resume, started again from step 0" in done.text
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [10, 12]
    assert (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run-2").exists()
