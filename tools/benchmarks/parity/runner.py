"""Run one job of one side in this process: its options, its time and peak memory, and its result as JSON.

A process does one job, so that its wall time and peak memory belong to that job.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from benchmarks.parity.tasks import TASKS, Boxes, Files

from tlvision.types import InputError

UPSTREAM_SETTINGS = ("freeze", "last", "loss", "lr", "precision")
"""Options that only upstream's side has; each family accepts some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training with upstream's own trainer.

    weights:   as in a tlvision config.
    out:       an absolute path of a folder for all that the run writes.
    crop:      side of the training crops; None takes the family's own.
    freeze:    number of upstream's layers to freeze, counted from the input.
    last:      evaluate only after the last epoch, and predict with the last weights.
    loss:      name of the loss.
    lr:        learning rate.
    precision: "fp32", or "bf16" for mixed precision.

    None always means what upstream does by default. The settings that a family accepts are its `SETTINGS`.
    """

    plugin: str
    files: Files
    weights: str
    arch: str
    epochs: int
    image_size: int
    batch: int
    seed: int
    out: Path
    crop: int | None = None
    freeze: int | None = None
    last: bool = False
    loss: str | None = None
    lr: float | None = None
    precision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Results of a job.

    predictions: a COCO results file for the val json, or a folder of label maps `<stem>.png` in the original size.
    images:      number of training images, summed over the epochs.
    upstream:    version of upstream.
    ap:          box AP of each evaluation, if upstream's trainer returns it.
    skipped:     notes of the reader on what it left out of the json.
    """

    predictions: Path
    images: int
    upstream: str
    ap: tuple[float, ...] = ()
    skipped: tuple[str, ...] = ()


class Clock:
    """Time and peak memory of the job in this process."""

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self.peak_memory = 0
        self._began = time.perf_counter()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Time the block as training, and read the peak memory at its end."""
        before = time.perf_counter()
        yield
        self.train_seconds = time.perf_counter() - before
        self.read_memory()

    def read_memory(self) -> None:
        """Set `peak_memory` to the peak so far."""
        self.peak_memory = peak_memory()

    def total_seconds(self) -> float:
        """Return the time since the clock was made."""
        return time.perf_counter() - self._began


class Family(Protocol):
    """A module of this package that trains the models of one plugin in upstream's own way."""

    SETTINGS: frozenset[str]

    def train(self, job: Job, clock: Clock) -> Outcome:
        """Train and predict the val images. Raises InputError if the files, the architecture or the weights are bad."""


def family(plugin: str) -> Family:
    """Return the module that trains the models of `plugin`."""
    return cast(Family, import_module(f"benchmarks.parity.{plugin}"))


def run(job: Job) -> dict[str, Any]:
    """Do a job in this process and return its result for JSON."""
    upstream = family(job.plugin)
    check_settings(job, upstream.SETTINGS)
    clock = Clock()
    job.out.mkdir(parents=True, exist_ok=True)
    outcome = upstream.train(job, clock)
    return {
        "predictions": str(outcome.predictions),
        "train_seconds": clock.train_seconds,
        "peak_memory_bytes": clock.peak_memory,
        "total_seconds": clock.total_seconds(),
        "images_per_second": outcome.images / clock.train_seconds,
        "epochs": job.epochs,
        "ap": list(outcome.ap),
        "device": device_name(),
        "upstream": outcome.upstream,
        "skipped": list(outcome.skipped),
    }


def check_settings(job: Job, accepted: frozenset[str]) -> None:
    """Raise InputError if the job has a setting that upstream's trainer does not have."""
    for name in ("crop", *UPSTREAM_SETTINGS):
        if name not in accepted and _is_given(getattr(job, name)):
            raise InputError(f"parity: the upstream side of '{job.plugin}' has no setting '{name}'. Remove --{name}.")


def _is_given(value: object) -> bool:
    return value is not None and value is not False  # 0 is a value


def device_name() -> str:
    """Return the device that upstream trains on: the first GPU, or the CPU without one."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def peak_memory() -> int:
    """Return the peak memory of this process so far in bytes: allocated on the GPU if it was used, else resident."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def current_memory() -> int:
    """Return the memory of this process now, of the same kind as `peak_memory`; without /proc, its peak so far."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.memory_allocated()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory()
    return pages * resource.getpagesize()


def arguments(description: str) -> argparse.Namespace:
    """Parse the command line of the comparison and of each side."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugin", choices=sorted(TASKS), required=True)
    parser.add_argument("--data", help="folder of the images and labels")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--crop", type=int, default=0, help="segmenters: side of the training crops; 0: the plugin's own"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", help="default: the plugin's fine-tuning config")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more overrides for our side")
    parser.add_argument("--out", default="runs/parity", help="folder for both sides' runs")
    parser.add_argument("--side", choices=["ours", "upstream"], help="run only this side; the last line is JSON")
    parser.add_argument("--seed", type=int, default=0, help="seed of that side")
    _add_upstream_options(parser)
    options = parser.parse_args()
    if options.side == "upstream":
        return options
    if options.data is None:
        parser.error("the following arguments are required: --data")
    for name in (*_file_options(), *UPSTREAM_SETTINGS):
        if _is_given(getattr(options, name)):
            parser.error(f"only --side upstream has the option for '{name}'")
    return options


def _add_upstream_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("--side upstream", "Each plugin accepts some of these settings; see its module.")
    for side in ("train", "val"):
        group.add_argument(f"--{side}-images", type=Path, metavar="DIR", help="default: as in the folder of --data")
        group.add_argument(f"--{side}-json", f"--{side}-masks", type=Path, dest=f"{side}_labels", metavar="PATH")
    group.add_argument("--classes", type=Path, help="segmenters: text file of the class names")
    group.add_argument("--freeze", type=int, help="freeze the first so many of upstream's layers")
    group.add_argument("--last", action="store_true", help="evaluate after the last epoch only, with the last weights")
    group.add_argument("--loss", help="default: cross_entropy")
    group.add_argument("--lr", type=float, help="default: that of upstream's recipe")
    group.add_argument("--precision", choices=["fp32", "bf16"], help="default: upstream's choice")


def _file_options() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Files))


def job_of(options: argparse.Namespace) -> Job:
    """Return the job that the options of `--side upstream` describe. Raises InputError if a path is missing."""
    if options.classes and isinstance(TASKS[options.plugin], Boxes):
        raise InputError(f"parity: '{options.plugin}' takes its classes from the json. Remove --classes.")
    paths = asdict(TASKS[options.plugin].files(Path(options.data))) if options.data else {}
    paths |= {name: getattr(options, name) for name in _file_options() if getattr(options, name)}
    missing = [name for name in _file_options() if name not in paths and name != "classes"]
    if missing:
        raise InputError(f"parity: no path for {', '.join(missing)}. Set --data, or each path by its own option.")
    same = ("plugin", "weights", "arch", "epochs", "image_size", "batch", "seed", *UPSTREAM_SETTINGS)
    return Job(
        files=Files(**paths),
        out=Path(options.out).resolve(),
        crop=options.crop or None,
        **{name: getattr(options, name) for name in same},
    )


def train_upstream(options: argparse.Namespace) -> None:
    """Do the job in this process and print its result as JSON on the last line."""
    print(json.dumps(run(job_of(options))))
