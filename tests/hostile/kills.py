"""Run by `test_kills.py`: train once straight, then in pieces, killed at random moments, and compare the ends.

    python kills.py CONFIG.json SEED KILLS

Each piece is a forked process that sends itself SIGKILL after a random time, counted from the moment at which training
is about to begin, wherever it is then: in a step, in an evaluation, in the middle of a checkpoint, in the results. A
run that ends is compared with the straight one, and the next one begins, until so many kills were survived. Prints a
JSON object: {"kills", "runs", "seconds", "phases"}.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from tlvision.engine import train as runs

torch.set_num_threads(1)
for name in ("torch._dynamo", "torchvision", "tlvision.training.session", "tlvision.training.optim"):
    importlib.import_module(name)  # once, before the forks, not in each of them


def attempt(config: dict[str, Any], run: Path, delay: float | None) -> tuple[bool, float]:
    """Train, or resume what is in `run`, in a process of its own; return whether it ended, and the seconds it took."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(config, run, delay, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        marks = [float(line) for line in pipe.read().split()]
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, f"{run}: the run failed; see {run.parent / 'output.txt'}"
        return True, marks[-1] - marks[0]
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False, 0.0


def _child(config: dict[str, Any], run: Path, delay: float | None, writer: int) -> None:
    code = 1
    try:
        output = os.open(run.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        build = runs.build_session

        def mark() -> None:
            os.write(writer, f"{time.monotonic()}\n".encode())

        def armed(*arguments: Any) -> Any:
            session = build(*arguments)
            mark()
            if delay is not None:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return session

        runs.build_session = armed
        if (run / "config.yaml").exists():
            runs.train({}, resume=run)
        else:
            runs.train(deepcopy(config))
        mark()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end_of(run: Path) -> dict[str, str]:
    """Return the hash of every file that a run ends with and that holds no path or time."""
    files = [
        *sorted(run.glob("checkpoints/*/*.safetensors")),
        *sorted(run.glob("checkpoints/*/state.json")),
        *sorted(run.glob("predictions/*.png")),
        *(path for name in ("metrics.json", "predictions.json") if (path := run / name).exists()),
    ]
    assert len(files) > 6
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def phase(run: Path) -> str:
    """Tell where a kill has struck, from what it left."""
    folder = run / "checkpoints"
    hidden = {path.name for path in folder.glob(".*")} if folder.exists() else set()
    if hidden:
        return "within a checkpoint"
    if not (folder / "last").exists():
        return "before the first checkpoint"
    done = json.loads((folder / "last" / "state.json").read_text())["closed_epochs"]
    total = runs.load_config(run / "config.yaml").train.epochs
    return "after the last step" if done == total else "between checkpoints"


def main() -> None:
    """Run all of it."""
    config = json.loads(Path(sys.argv[1]).read_text())
    rng, wanted = random.Random(int(sys.argv[2])), int(sys.argv[3])
    folder = Path(config["run"]["out"])
    run = folder / "straight"
    run.parent.mkdir(parents=True)
    config["run"]["out"] = str(run)
    ended, seconds = attempt(config, run, None)
    assert ended
    expected = end_of(run)
    kills, finished, phases = 0, 0, Counter[str]()
    while kills < wanted:
        run = folder / f"run{finished}"
        config["run"]["out"] = str(run)
        while not attempt(config, run, rng.uniform(0, seconds * 0.7) if kills < wanted else None)[0]:
            kills += 1
            phases[phase(run)] += 1
        assert end_of(run) == expected, (
            f"{run} differs in {[n for n, h in end_of(run).items() if expected.get(n) != h]}"
        )
        steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        numbers = [line["step"] for line in steps if line["kind"] == "step"]
        assert numbers == list(range(1, numbers[-1] + 1)), f"{run}: steps are lost or doubled in the log"
        finished += 1
    print(json.dumps({"kills": kills, "runs": finished, "seconds": seconds, "phases": phases}))


if __name__ == "__main__":
    main()
