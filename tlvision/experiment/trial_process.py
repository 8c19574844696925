"""The process of one trial: an ordinary `tlvision` command, which a second runner does not start again.

A trial holds a lock on `<trial>.lock` as long as its process lives, also when the runner was killed. Whoever comes
second waits for it, so that no trial is trained by two processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlvision.config.load import dump_config
from tlvision.engine.run_folder import is_finished
from tlvision.experiment.plan import Trial

POLL = 0.05
"""Seconds between two looks at a process."""
PATIENCE = 120.0
"""Seconds that a trial has to save its checkpoint after Ctrl-C."""
TLVISION = (sys.executable, "-m", "tlvision.cli.main")
ACTIONS = (sys.executable, "-m", "tlvision.experiment.actions")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended: `seconds` of its process (None if there was nothing to do), `error` in a sentence or ""."""

    trial: Trial
    seconds: float | None
    error: str = ""


class TrialProcess:
    """A trial that runs, or waits for the process of another runner that holds its lock.

    environment: variables of its process besides those of this one.
    command:     the words of `tlvision`.
    """

    def __init__(self, trial: Trial, environment: Mapping[str, str], command: Sequence[str] = TLVISION) -> None:
        self.trial = trial
        self._environment, self._command = {**os.environ, **environment}, command
        self._process: subprocess.Popen[bytes] | None = None
        self._started = time.monotonic()
        trial.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = os.open(trial.folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        self._begin()

    def poll(self) -> Outcome | None:
        """Return how the trial ended, None while it runs."""
        if self._process is None:
            return self._begin()
        code = self._process.poll()
        if code is None:
            return None
        self._release()
        seconds = time.monotonic() - self._started
        if is_done(self.trial):
            return Outcome(self.trial, seconds)
        return Outcome(self.trial, seconds, _problem(self.trial.folder.with_suffix(".log"), code))

    def interrupt(self) -> None:
        """Ask the process to save its checkpoint and end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def end(self, until: float) -> None:
        """Return when the process has ended; it is killed if that takes longer than to `until` (monotonic clock)."""
        if self._process is not None:
            try:
                self._process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._release()

    def _begin(self) -> Outcome | None:
        """Start the process if nobody else has the trial; return an outcome if there is nothing left to do."""
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if is_done(self.trial):
            self._release()
            return Outcome(self.trial, None)
        self._started = time.monotonic()
        with self.trial.folder.with_suffix(".log").open("ab") as log, _hears_interrupts():
            self._process = subprocess.Popen(
                _words(self.trial, self._command),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches the runner alone, which passes it on
                pass_fds=[self._lock],  # the lock is held as long as the process lives
            )
        return None

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def _hears_interrupts() -> Iterator[None]:
    """Let a process that is started here hear Ctrl-C, also under `nohup … &`, where a shell has it ignored."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is ignored would be inherited
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_to_end(trial: Trial, environment: Mapping[str, str], command: Sequence[str] = TLVISION) -> Outcome:
    """Run a trial in a process of its own, wait for it, and return how it ended; Ctrl-C and SIGTERM let it save."""
    process = None
    try:
        process = TrialProcess(trial, environment, command)
        while (outcome := process.poll()) is None:
            time.sleep(POLL)
        return outcome
    finally:
        if process is not None:
            process.interrupt()
            process.end(time.monotonic() + PATIENCE)


def is_done(trial: Trial) -> bool:
    """Return whether nothing is left to do: its run has finished, or come to the epoch at which it stops."""
    if is_finished(trial.folder):
        return True
    return trial.until is not None and epochs_of(trial.folder) >= trial.until


def epochs_of(run: Path) -> int:
    """Return the epochs that the last checkpoint of a run has closed, 0 without a checkpoint."""
    try:
        return int(json.loads((run / "checkpoints" / "last" / "state.json").read_text("utf-8"))["closed_epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _words(trial: Trial, train: Sequence[str]) -> list[str]:
    """Return the command of a trial, and write the config of one that has not begun."""
    folder, config = trial.folder, trial.folder.with_suffix(".yaml")
    until = [] if trial.until is None else ["--until", str(trial.until)]
    if folder.exists() and (trial.action != "train" or not (folder / "config.yaml").exists()):
        shutil.rmtree(folder)  # killed before it was a run; what is no training begins again
    if folder.exists():
        return [*train, "train", "--resume", str(folder), *until]
    config.write_text(dump_config(trial.config), encoding="utf-8")
    if trial.action == "train":
        return [*train, "train", str(config), *until]
    return [*ACTIONS, str(config), *trial.command]


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
