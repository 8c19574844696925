"""Show how far an experiment is: one bar for all trials, and one for each that runs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tlvision.experiment.plan import Trial, shown_point
from tlvision.types import counted

EVERY = 1.0
"""Seconds between two looks into the logs of trials."""
_TAIL = 4096


class ExperimentProgress:
    """Bars of an experiment; the time that is left follows from the epochs that are done.

    total: trials, None if nobody knows. metric: shown for each that runs.
    """

    def __init__(self, console: Console, total: int | None, metric: str) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._bars = Progress(*columns, console=console, transient=True)
        self._all = self._bars.add_task("all trials", total=total, text="")
        self._running: dict[str, TaskID] = {}
        self._metric, self._ended, self._last = metric, 0, 0.0

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove the bars."""
        self._bars.stop()

    def watch(self, running: Sequence[Trial]) -> None:
        """Draw the state of the trials that run; called as often as one likes."""
        if time.monotonic() - self._last < EVERY:
            return
        self._last = time.monotonic()
        for gone in set(self._running) - {trial.id for trial in running}:
            self._bars.remove_task(self._running.pop(gone))
        shares = 0.0
        for trial in running:
            share, text = state_of(trial, self._metric)
            if trial.id not in self._running:
                self._running[trial.id] = self._bars.add_task(shown_point(trial.point), total=1.0, text="")
            self._bars.update(self._running[trial.id], completed=share, text=text)
            shares += share
        self._bars.update(self._all, completed=self._ended + shares, text=f"{counted(self._ended, 'trial')} ended")

    def ended(self, text: str) -> None:
        """Count a trial that has ended, and print a line above the bars if there is one."""
        self._ended += 1
        if text:
            self._bars.print(text)


def state_of(trial: Trial, metric: str) -> tuple[float, str]:
    """Return the share of a trial's epochs that are done, 0..1, and in words the epoch and the last metric.

    (0.0, "starting") if its log does not say.
    """
    epochs, epoch, done, value = trial.until or trial.config.train.epochs, 0, 0.0, ""
    for line in _last_lines(trial.folder / "log.jsonl"):
        epoch = int(line.get("epoch", epoch))
        done = epoch if line.get("kind") == "evaluation" else max(done, epoch - 1)
        if metric in line.get("metrics", {}):
            value = f", {metric} {line['metrics'][metric]:.4f}"
    return (min(1.0, done / epochs), f"epoch {epoch}/{epochs}{value}") if epoch else (0.0, "starting")


def _last_lines(log: Path) -> list[dict[str, Any]]:
    """Return the whole lines at the end of a log; half a line, or none, is no error."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
