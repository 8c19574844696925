"""Send a run to an experiment tracker from a background thread: a slow or absent server never stops training."""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

import yaml

from tlvision.files.json_files import read_object, write_json
from tlvision.hooks.base import Context, ObserverHook
from tlvision.terminal import console, note
from tlvision.types import InputError, leaves
from tlvision.types.shown import cause

Status = Literal["finished", "interrupted", "failed"]
RESULTS = ("report.html", "metrics.json", "thresholds.json", "calibration.json")
"""Files at the top of a run's folder that `artifacts` uploads."""
SECONDS = 60.0
"""Time that a tracker gets at the end of a run to send the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The run that a tracker is about to open.

    run_id:  the tracker's id of it, kept in the run's folder; None if this tracker has not seen the run.
    config:  the resolved config as {dotted key: value}, without the parameters of trackers.
    remember: call it with the id before anything is sent.
    """

    folder: Path
    run_id: str | None
    config: Mapping[str, Any]
    remember: Callable[[str], None]


class TrackedRun(Protocol):
    """An open run of a tracker. Every method may raise; the rest of the run is then not sent.

    notice: a sentence for the user, or "".
    """

    notice: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers of a step."""
        ...

    def summarise(self, values: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Send the final metrics and paths."""
        ...

    def upload(self, paths: Iterable[Path]) -> None:
        """Send files and folders."""
        ...

    def finish(self, status: Status) -> None:
        """Close the run."""
        ...


class Sender:
    """A thread that opens a run and makes calls on it, in order, until the first error.

    error:  what went wrong, or None.
    notice: a sentence of the run for the user, or "".
    """

    def __init__(self, open_run: Callable[[], TrackedRun]) -> None:
        self.error: BaseException | None = None
        self.notice = ""
        self._open = open_run
        self._calls: SimpleQueue[Callable[[TrackedRun], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tlvision-tracker", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[TrackedRun], None]) -> None:
        """Queue a call and return at once; after an error, drop it."""
        if self.error is None:
            self._calls.put(call)

    def close(self, status: Status, seconds: float) -> bool:
        """Close the run after the queued calls; return whether that was done in time."""
        self.put(lambda run: run.finish(status))
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        run = None
        try:
            run = self._open()
            self.notice = run.notice
            while (call := self._calls.get()) is not None:
                call(run)
        except (Exception, SystemExit) as error:  # a tracker may raise anything; training goes on
            self.error = error
            if run is not None:
                with suppress(Exception):
                    run.finish("failed")


class TrackerHook(ObserverHook):
    """Base of hooks that send losses, metrics and results of a run to an experiment tracker.

    Losses, measures and learning rate are sent every `every` steps, metrics after each evaluation, those of the best
    checkpoint and the paths of the results at the end. Only the main process sends.
    """

    title: str
    """The tracker's name in messages."""
    every: int
    artifacts: bool
    checkpoint: bool
    variables: tuple[str, ...] = ()
    """Environment variables that the tracker's package sets."""
    enabled: bool = True
    _sender: Sender | None = None
    _added: Iterable[str] = ()
    _console: Any = None
    _reported: bool = False
    _finished: bool = False
    _best: Mapping[str, Any] | None = None

    @abstractmethod
    def open_run(self, record: RunRecord) -> TrackedRun:
        """Open the tracker's run; called in a thread of its own."""

    def before_fit(self, context: Context) -> None:
        """Open the run, or the same one again if the run is resumed."""
        if not self.enabled or not context.is_main:
            return
        self._reported = self._finished = False
        problem = self._start(context)
        if problem:
            context.notices.append(problem)

    def after_step(self, context: Context) -> None:
        """Send losses, measures and learning rate."""
        if self._sender is None:
            return
        if context.step % self.every == 0 or context.step % context.duration.steps_per_epoch == 0:
            losses = {f"loss/{name}": value for name, value in context.losses.items()}
            total = sum(context.losses.values())
            self._log({"lr": context.lr, "total_loss": total, **losses, **context.measures}, context.step)
        self._report(context)

    def after_evaluation(self, context: Context) -> None:
        """Send the metrics, and keep those of the best evaluation."""
        value = context.metrics[context.select]
        if self._best is None or context.gain(value, self._best["value"]) > 0:
            self._best = {"value": value, "step": context.step, "metrics": dict(context.metrics)}
        if self._sender is not None:
            self._log(context.metrics, context.step)

    def after_fit(self, context: Context) -> None:
        """Send the metrics of the best checkpoint, and where the results are."""
        self._finished = True
        if self._sender is None:
            return
        best = self._best or {"step": context.step, "metrics": {}}
        values = {f"best/{name}": float(value) for name, value in best["metrics"].items()}
        values["best/step"] = float(best["step"])
        folder = context.run_dir.absolute()
        texts = {"path/run": str(folder), "path/best": str(folder / "checkpoints" / "best")}
        self._sender.put(lambda run: run.summarise(values, texts))

    def close(self) -> None:
        """Close the tracker's run, also after an error."""
        if self._sender is None:
            return
        sender, self._sender = self._sender, None
        failed = sys.exc_info()[0] is not None
        status: Status = "finished" if self._finished else "failed" if failed else "interrupted"
        in_time = sender.close(status, SECONDS)
        self._restore_environment()
        problem = self._problem(sender, in_time)
        if problem:
            note(self._console, problem)

    def after_run(self, context: Context) -> None:
        """Send files of the run, if asked."""
        if not (self.enabled and (self.artifacts or self.checkpoint)) or self._reported:
            return
        paths = [context.run_dir / name for name in RESULTS if self.artifacts]
        paths += [context.run_dir / "checkpoints" / "best"] if self.checkpoint else []
        found = [path for path in paths if path.exists()]
        problem = self._start(context)
        if self._sender is None:
            note(self._console, problem)
            return
        self._sender.put(lambda run: run.upload(found))
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the best evaluation so far."""
        return {"best": None if self._best is None else dict(self._best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._best = state["best"]

    def _start(self, context: Context) -> str:
        """Start the thread; return "", or a sentence about why it cannot start."""
        self._console = console()
        self._added = [name for name in self.variables if name not in os.environ]
        path = context.run_dir / f"{self.key()}.json"
        try:
            for package in self.packages:
                import_module(package)  # here, as a thread must not import while processes are forked
            run_id = _read_id(path)
            config = _read_config(context.run_dir / "config.yaml")
        except Exception as error:
            self._reported = True
            return self._sentence(error)
        record = RunRecord(
            folder=context.run_dir.absolute(),
            run_id=run_id,
            config=config,
            remember=lambda run_id: write_json(path, {"run_id": run_id}),
        )
        self._sender = Sender(lambda: self._open(record))
        return ""

    def _open(self, record: RunRecord) -> TrackedRun:
        try:
            return self.open_run(record)
        finally:
            self._restore_environment()

    def _restore_environment(self) -> None:
        """Remove what the tracker's package has added to the environment, which later processes would inherit."""
        for name in self._added:
            os.environ.pop(name, None)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        kept = {name: float(value) for name, value in values.items()}
        if self._sender is not None:
            self._sender.put(lambda run: run.log(kept, step))

    def _report(self, context: Context) -> None:
        """Give the user one notice of an error."""
        problem = "" if self._sender is None else self._problem(self._sender)
        if problem:
            context.notices.append(problem)

    def _problem(self, sender: Sender, in_time: bool = True) -> str:
        """Return a sentence about an error, or another notice, that the user has not had yet."""
        if not self._reported and (sender.error is not None or not in_time):
            self._reported = True
            late = f"{self.key()}: {self.title} did not answer for {SECONDS:g} s. The last records are missing."
            return late if sender.error is None else self._sentence(sender.error)
        notice, sender.notice = sender.notice, ""
        return f"{self.key()}: {notice}" if notice else ""

    def _sentence(self, error: BaseException) -> str:
        return f"{self.key()}: {self.title} cannot be written to ({cause(error)}). Training goes on without it."


def new_id() -> str:
    """Return a random id; it draws from no generator that training uses."""
    return uuid.uuid4().hex


def _read_id(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        found = read_object(path, "").get("run_id")
    except InputError:  # the half of a file: the tracker gets a new run
        return None
    return found if isinstance(found, str) and found else None


def _read_config(path: Path) -> dict[str, Any]:
    """Return a run's config as {dotted key: value}; a list of plain values is one value."""
    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    hooks = {name: values for hook in config.pop("hooks", []) for name, values in hook.items()}
    for name in ("mlflow", "wandb"):  # an address may hold a password
        hooks.pop(name, None)
    found = leaves({**config, "hooks": hooks})
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value for key, value in found
    }
