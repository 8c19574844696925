"""Measure the response time of commands, each in a new process, next to upstream's; medians.

python tools/bench.py startup
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time

REPEATS = 7


def seconds(command: list[str]) -> float:
    """Return the median wall time of `command` over REPEATS runs, after one that is not counted."""
    times = []
    for _ in range(REPEATS + 1):
        before = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False)
        times.append(time.perf_counter() - before)
    return statistics.median(times[1:])


def main() -> None:
    """Print a line a command."""
    ours = {
        "tlvision --help": [sys.executable, "-m", "tlvision.cli.main", "--help"],
        "tlvision plugins": [sys.executable, "-m", "tlvision.cli.main", "plugins"],
    }
    base = seconds([sys.executable, "-c", "pass"])
    upstream = seconds(["yolo", "help"]) if shutil.which("yolo") else None
    print(f"python -c pass     {base:.3f} s")
    if upstream:
        print(f"yolo help          {upstream:.3f} s")
    for name, command in ours.items():
        taken = seconds(command)
        print(f"{name:<18} {taken:.3f} s" + (f"   ratio to 'yolo help' {taken / upstream:.2f}" if upstream else ""))


if __name__ == "__main__":
    main()
