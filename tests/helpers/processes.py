"""Find processes by what their command line names, and kill them at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def parents_of(word: str) -> dict[int, int]:
    """Return the processes with a word in their command line, and the parent of each."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if word.encode() in (folder / "cmdline").read_bytes():
                    found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return found


def processes_of(path: Path) -> list[int]:
    """Return the processes whose command line has a path."""
    return list(parents_of(str(path)))


def kill_five_times(command: list[str], trials: Path, seed: int, longest: float) -> None:
    """Start a runner of experiments five times, and kill -9 in turn it and one of its trials.

    command: of the runner. trials: its folder of trials. longest: seconds to wait at most, once there is that folder.
    """
    generator = random.Random(seed)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for number in range(5):
        runner = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + 60
        while not trials.exists() and runner.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, longest))
        victims = processes_of(trials) if number % 2 else []
        os.kill(generator.choice(victims) if victims else runner.pid, signal.SIGKILL)
        runner.wait(120)
