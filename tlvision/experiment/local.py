"""Run trials as processes on this machine: ordinary `tlvision train` commands, which outlive nothing twice.

A trial holds a lock on `<trial>.lock` as long as its process lives, also when the runner was killed. A second runner
waits for it, so that no trial is trained by two processes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlvision.config.load import dump_config
from tlvision.engine.run_folder import is_finished
from tlvision.experiment.plan import Trial

POLL = 0.05
"""Seconds between two looks at the processes."""
PATIENCE = 120.0
"""Seconds that a trial has to save its checkpoint after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended: `seconds` of its process (None if it had finished before), `error` in a sentence or ""."""

    trial: Trial
    seconds: float | None
    error: str = ""


@dataclass(slots=True)
class _Running:
    """A process with its lock; without a process it is one of another runner."""

    trial: Trial
    started: float
    slot: int
    process: subprocess.Popen[bytes] | None
    lock: int


@dataclass(slots=True)
class LocalExecutor:
    """Runs trials in processes of their own.

    jobs: at a time. gpus: names of the GPUs for CUDA_VISIBLE_DEVICES; each job gets one, and without a GPU its share of
          the processor's cores.
    """

    jobs: int = 1
    gpus: Sequence[str] = ()
    command: Sequence[str] = (sys.executable, "-m", "tlvision.cli.main")
    _running: list[_Running] = field(default_factory=list)

    def run(self, trials: Sequence[Trial], watch: Callable[[list[Trial]], None] | None = None) -> Iterator[Outcome]:
        """Yield the outcome of each trial as it ends.

        watch: called again and again with the trials that are running.

        Raises KeyboardInterrupt after Ctrl-C, when every trial has saved its last checkpoint and ended.
        """
        waiting = list(trials)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.jobs:
                    trial = waiting.pop(0)
                    if is_finished(trial.folder):
                        yield Outcome(trial, None)
                    else:
                        self._running.append(self._start(trial))
                for each in [each for each in self._running if self._has_ended(each)]:
                    self._running.remove(each)
                    if each.process is None and not is_finished(each.trial.folder):
                        os.close(each.lock)
                        waiting.insert(0, each.trial)  # that of another runner did not finish it
                    else:
                        yield self._outcome(each)
                if watch is not None:
                    watch([each.trial for each in self._running])
                time.sleep(POLL if self._running else 0)
        finally:
            self._stop()

    def _start(self, trial: Trial) -> _Running:
        folder = trial.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        used = {each.slot for each in self._running}
        slot = next(number for number in range(self.jobs) if number not in used)
        lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _Running(trial, time.monotonic(), slot, None, lock)
        config = folder.with_suffix(".yaml")
        if folder.exists() and not (folder / "config.yaml").exists():
            shutil.rmtree(folder)  # killed before it was a run
        if folder.exists():
            arguments = ["train", "--resume", str(folder)]
        else:
            config.write_text(dump_config(trial.config), encoding="utf-8")
            arguments = ["train", str(config)]
        with folder.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [*self.command, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environment(slot)},
                start_new_session=True,  # Ctrl-C reaches the runner alone, which passes it on
                pass_fds=[lock],  # the lock is held as long as the process lives
            )
        return _Running(trial, time.monotonic(), slot, process, lock)

    def _environment(self, slot: int) -> dict[str, str]:
        if self.gpus:
            return {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]}
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}

    def _has_ended(self, each: _Running) -> bool:
        if each.process is not None:
            return each.process.poll() is not None
        try:
            fcntl.flock(each.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _outcome(self, each: _Running) -> Outcome:
        os.close(each.lock)
        seconds = None if each.process is None else time.monotonic() - each.started
        if is_finished(each.trial.folder):
            return Outcome(each.trial, seconds)
        code = 0 if each.process is None else each.process.returncode
        return Outcome(each.trial, seconds, _problem(each.trial.folder.with_suffix(".log"), code))

    def _stop(self) -> None:
        """Ask every process to save and end, and end those that do not."""
        alive = [each for each in self._running if each.process is not None]
        for each in alive:
            assert each.process is not None
            each.process.send_signal(signal.SIGINT)
        until = time.monotonic() + PATIENCE
        for each in alive:
            assert each.process is not None
            try:
                each.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
        for each in self._running:
            os.close(each.lock)
        self._running.clear()


def _problem(log: Path, code: int) -> str:
    """Return why a trial failed: the last error of its log, or how its process ended."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    for line in reversed(lines):
        for start in ("error: ", "failed: "):
            if line.startswith(start):
                return line.removeprefix(start)
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}; see {log}"
    return f"its process ended with code {code}; see {log}"
