"""Runs of a benchmark, each in a process of its own, and a results file that is whole after each of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """One training run.

    key:     its name in the results file.
    command: trains and leaves predictions.json in `folder`.
    folder:  made by the command; its log is `folder` + ".log".
    """

    key: str
    command: tuple[str, ...]
    folder: Path


class Results:
    """The runs that are done, by key. A row with "failed" (the last line of its log) is done again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Add the row of one run and write the file."""
        self.rows[key] = row
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        fresh.replace(self.path)

    def has(self, key: str) -> bool:
        """Return whether the run was done without failure."""
        return key in self.rows and "failed" not in self.rows[key]


def check_settings(out: Path, now: Mapping[str, object]) -> None:
    """Write OUT/settings.json; SystemExit if OUT holds results of other settings, which would be taken for these."""
    path, shown = out / "settings.json", {name: str(value) for name, value in now.items()}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else shown
    if before != shown:
        raise SystemExit(f"{path} has {before}, this command {shown}; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(shown, indent=1), encoding="utf-8")


def run_all(
    runs: Sequence[Run],
    results: Results,
    jobs: int,
    score: Callable[[Run], dict[str, Any]],
    *,
    record_failures: bool = False,
) -> None:
    """Do the runs that are not done yet, `jobs` at a time, and add each with what `score` returns.

    score is called in this thread. Failures, of scoring too, are printed and stop no other run; with `record_failures`
    they are rows of the results file as well: {"failed": the last line of the log, or why it cannot be scored}.
    """
    missing = [run for run in runs if not results.has(run.key)]
    with ThreadPoolExecutor(jobs) as pool:
        started = {pool.submit(run_process, run, jobs): run for run in missing}
        for future in as_completed(started):
            run = started[future]
            try:
                # Scored in this thread: pycocotools prints, and silencing it is a matter of the whole process.
                row = future.result() | score(run)
            except (subprocess.CalledProcessError, OSError, ValueError, LookupError) as error:
                why = str(getattr(error, "stderr", None) or f"cannot be scored: {error}")
                print(f"{run.key:<40} FAILED: {why}", flush=True)
                if record_failures:
                    results.add(run.key, {"failed": why})
                continue
            results.add(run.key, row)
            print(f"{run.key:<40} AP {row['ap']:.4f}  {row['seconds']:.0f} s", flush=True)


def run_process(run: Run, jobs: int) -> dict[str, Any]:
    """Run one training in a process of its own, with one thread if others run at the same time.

    Returns "seconds" (of the process), "peak_memory_bytes" and "jobs". Raises CalledProcessError, with the last line of
    the log as its stderr.
    """
    log = run.folder.with_name(f"{run.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(run.folder, ignore_errors=True)  # of a run that failed
    before = time.perf_counter()
    threads = {} if jobs == 1 else {"OMP_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(run.command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **threads})
        # Not wait(): the peak of this child alone is in what the system says of it.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise subprocess.CalledProcessError(process.returncode, run.command, stderr=f"{' '.join(last)}; log: {log}")
    return {
        "seconds": time.perf_counter() - before,
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "jobs": jobs,
    }
