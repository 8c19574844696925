"""Loading processes that are spawned, as on Windows and macOS: they work, or one sentence says why they cannot."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from launch import run_script
from tlvision.data import processes
from tlvision.types import InputError, RunError

SCRIPT = """
import multiprocessing
import tlvision

def main():
    result = tlvision.train("c.yaml", ["data.workers=WORKERS"])
    print("AP", result.metrics["bbox"]["AP"])

"""
GUARDED = f'{SCRIPT}if __name__ == "__main__":\n    multiprocessing.set_start_method("METHOD")\n    main()\n'
PLAIN = f'{SCRIPT}multiprocessing.set_start_method("METHOD", force=True)\nmain()\n'


@pytest.fixture
def folder(tiny_config: dict[str, Any], tmp_path: Path) -> Path:
    """A folder with c.yaml: one epoch with a data hook, whose state travels to the loading processes."""
    images = tiny_config["data"]["train"]["images"]
    tiny_config["data"]["target"] = {"images": images}
    tiny_config["hooks"] = [{"colour_statistics": {}}, {"log": {"progress": "none", "tensorboard": "off", "every": 1}}]
    tiny_config["train"]["epochs"] = 1
    tiny_config["evaluate"] = {"select": "target/bbox/AP"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tiny_config))
    return tmp_path


def run(folder: Path, script: str, *, stdin: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`, with two loading processes unless it says otherwise; a hang fails the test."""
    script = script.replace("WORKERS", "2")
    (folder / "script.py").write_text(script)
    root = Path(__file__).parents[3]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", f"{root}{os.pathsep}{root / 'plugins'}")
        patch.setenv("OMP_NUM_THREADS", "1")
        if not stdin:
            return run_script(Path("script.py"))
        return subprocess.run(
            [sys.executable, "-"], input=script, capture_output=True, text=True, check=False, timeout=240
        )


def losses(run_folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_with_the_guard_a_run_trains_as_without_processes(folder: Path, workers: int) -> None:
    import tlvision

    done = run(folder, GUARDED.replace("METHOD", "spawn").replace("WORKERS", str(workers)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "AP " in done.stdout
    plain = tlvision.train(folder / "c.yaml", ["data.workers=0"])
    assert losses(folder / "run") == losses(plain.run)
    assert len(losses(plain.run)) == 3


@pytest.mark.slow
def test_with_the_guard_a_run_trains_under_forkserver(folder: Path) -> None:
    done = run(folder, GUARDED.replace("METHOD", "forkserver"))
    assert done.returncode == 0, done.stderr[-3000:]


def test_without_the_guard_one_sentence_names_it_and_nothing_is_written(folder: Path) -> None:
    done = run(folder, PLAIN.replace("METHOD", "spawn"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("tlvision.types.errors.InputError: the script starts loading")
    assert "Put its calls below 'if __name__ == \"__main__\":', or set data.workers to 0." in done.stderr
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_code_from_standard_input_trains_without_processes_and_says_so(folder: Path) -> None:
    done = run(folder, PLAIN.replace("METHOD", "spawn"), stdin=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "note data.workers: code from standard input cannot start loading processes" in done.stdout


def as_main(monkeypatch: pytest.MonkeyPatch, path: Path, text: str, line: int) -> None:
    """Make `path` the running script, now at `line`."""
    path.write_text(text)
    module = ModuleType("__main__")
    module.__file__, module.__spec__ = str(path), None
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(processes, "start_method", lambda: "spawn")
    code = compile("\n" * (line - 1) + "found = can_start(2)", str(path), "exec")
    vars(module)["can_start"] = processes.can_start
    exec(code, vars(module))


GUARDS = [
    ('import x\nif __name__ == "__main__":\n    go()\n', 3, True),
    ("import x\nif '__main__' == __name__:\n    go()\n", 3, True),
    ('import x\nif __name__ == "__main__" and x:\n    go()\n', 3, True),
    ("import x\ngo()\n", 2, False),
    ('go()\nif __name__ == "__main__":\n    pass\n', 1, False),
    ('if __name__ == "__main__":\n    pass\ngo()\n', 3, False),
    ("if x:\n    go()\n", 2, False),
]


@pytest.mark.parametrize(("text", "line", "allowed"), GUARDS)
def test_the_guard_is_found(
    text: str, line: int, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if allowed:
        as_main(monkeypatch, tmp_path / "s.py", text, line)
        return
    with pytest.raises(InputError, match="__main__"):
        as_main(monkeypatch, tmp_path / "s.py", text, line)


def test_a_process_that_runs_the_script_again_ends_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    processes.refuse_in_child()
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit, match="a loading process ran this script again"):
        processes.refuse_in_child()


def test_what_cannot_be_sent_to_processes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"images": np.zeros(3), "change": lambda image: image}
    processes.check_picklable(work)  # processes are forked here: nothing is sent
    monkeypatch.setattr(processes, "start_method", lambda: "spawn")
    processes.check_picklable({"images": np.zeros(3)})
    with pytest.raises(InputError, match=r"data\.workers: .* no lambdas or local ones, or set data\.workers to 0"):
        processes.check_picklable(work)


def test_a_process_that_dies_is_a_failed_run() -> None:
    processes.raise_if_worker_died(RuntimeError("shapes do not fit"))
    with pytest.raises(RunError, match="a loading process has ended unexpectedly"):
        processes.raise_if_worker_died(RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."))
