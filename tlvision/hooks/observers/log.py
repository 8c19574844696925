"""Log a run: a live progress bar, plain lines without a terminal, log.jsonl, TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from tlvision.files.json_files import write_text
from tlvision.hooks.base import Context, ObserverHook
from tlvision.terminal import console, note

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class _Rate(ProgressColumn):
    """Images per second since the start of the epoch."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['rate']:.1f} img/s", style="cyan")


class Log(ObserverHook):
    """Show progress and write `log.jsonl`; part of every run.

    every:       steps between two lines of log.jsonl, at least 1.
    progress:    auto: a live bar on a terminal, a line an epoch elsewhere; bar, lines or none to insist.
    tensorboard: auto: written to `tensorboard/` in the run's folder if the package is installed.

    A step line is {"kind": "step", "step", "epoch", "lr", "loss", "losses": {name: value}, "images_per_second"}, with
    "measures" where hooks have some; an evaluation line {"kind": "evaluation", "step", "epoch", "metrics": {"bbox/AP":
    value, …}}; notices of hooks {"kind": "notice", "step", "text"}.
    """

    def __init__(
        self,
        *,
        every: Annotated[int, Field(ge=1)] = 10,
        progress: Literal["auto", "bar", "lines", "none"] = "auto",
        tensorboard: Literal["auto", "on", "off"] = "auto",
    ) -> None:
        self.every, self.progress, self.tensorboard = every, progress, tensorboard
        self._bar: Progress | None = None
        self._task: Any = None
        self._writer: SummaryWriter | None = None
        self._console = console()
        self._started = self._epoch_started = time.perf_counter()
        self._epoch_images = 0

    def before_fit(self, context: Context) -> None:
        """Open the bar and the writers; on resume, drop the lines of steps that are about to be repeated."""
        if not context.is_main:
            return
        _forget_after(context.run_dir / "log.jsonl", context.step)
        self._started = time.perf_counter()
        if self._wants_tensorboard():
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(context.run_dir / "tensorboard"), purge_step=context.step)
        if self.progress == "bar" or (self.progress == "auto" and self._console.is_terminal):
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
                _Rate(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[losses]}", markup=False),
                console=self._console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(
                "starting", total=context.duration.total_steps, completed=context.step, rate=0.0, losses=""
            )
            self._bar.start()

    def _wants_tensorboard(self) -> bool:
        if self.tensorboard == "auto":
            return importlib.util.find_spec("tensorboard") is not None
        return self.tensorboard == "on"

    def before_epoch(self, context: Context) -> None:
        """Start the clock of the epoch."""
        self._epoch_started, self._epoch_images = time.perf_counter(), context.images_seen

    def after_step(self, context: Context) -> None:
        """Move the bar; every so often write a line."""
        if not context.is_main:
            return
        self._tell(context)
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=context.step,
                description=self._description(context),
                rate=self._rate(context),
                losses=_format(context.losses_mean),
            )
        if context.step % self.every == 0 or context.step % context.duration.steps_per_epoch == 0:
            line = {
                "kind": "step",
                "step": context.step,
                "epoch": (context.step - 1) // context.duration.steps_per_epoch + 1,
                "lr": context.lr,
                "loss": sum(context.losses.values()),
                "losses": context.losses,
                "images_per_second": round(self._rate(context), 2),
                **({"measures": context.measures} if context.measures else {}),
            }
            self._write(context, line)
            if self._writer is not None:
                self._writer.add_scalar("lr", context.lr, context.step)
                scalars = {f"loss/{name}": value for name, value in context.losses.items()} | context.measures
                for name, value in scalars.items():
                    self._writer.add_scalar(name, value, context.step)

    def _tell(self, context: Context) -> None:
        for text in context.notices:
            self._write(context, {"kind": "notice", "step": context.step, "text": text})
            if self.progress != "none":
                note(self._console, text)
        context.notices.clear()

    def after_evaluation(self, context: Context) -> None:
        """Write the metrics."""
        if not context.is_main:
            return
        self._write(
            context, {"kind": "evaluation", "step": context.step, "epoch": context.epoch, "metrics": context.metrics}
        )
        if self._writer is not None:
            for name, value in context.metrics.items():
                self._writer.add_scalar(name, value, context.step)

    def after_epoch(self, context: Context) -> None:
        """Print one line for the epoch; above the bar, where there is one."""
        if not context.is_main or self.progress == "none":
            return
        now = time.perf_counter()
        done = context.progress
        left = (now - self._started) * (1 - done) / max(done, 1e-9)
        value = context.metrics.get(context.select)
        metric = "" if value is None else f"  {context.select} {value:.4f} (best {context.best or 0:.4f})"
        tail = "" if self._bar is not None else f"  {_clock(left)} left"
        self._console.print(
            f"epoch {context.epoch}/{context.duration.epochs}  {_format(context.losses_mean)}{metric}"
            f"  {self._rate(context):.1f} img/s{tail}",
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Give the terminal and the writer back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _description(self, context: Context) -> str:
        epoch = (context.step - 1) // context.duration.steps_per_epoch + 1
        value = context.metrics.get(context.select)
        metric = "" if value is None else f"  {context.select} {value:.3f}"
        return f"epoch {epoch}/{context.duration.epochs}{metric}"

    def _rate(self, context: Context) -> float:
        elapsed = time.perf_counter() - self._epoch_started
        return (context.images_seen - self._epoch_images) / max(elapsed, 1e-9)

    def _write(self, context: Context, line: dict[str, Any]) -> None:
        with (context.run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _forget_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = [line for line in text.splitlines() if _step_of(line) <= step]
    write_text(path, "".join(line + "\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):  # the half line of a killed process
        return float("inf")


def _format(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
