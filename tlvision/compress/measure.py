"""Measure variants of one model: the metric with intervals, size, latency and memory, side by side."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import track

from tlvision.engine.datasets import measure_options
from tlvision.engine.evaluators import build_evaluator
from tlvision.evaluation.bootstrap import Bootstrap, bootstrap
from tlvision.evaluation.per_image import PerImage
from tlvision.runtime.model import RuntimeModel, prepare
from tlvision.tasks import HasPerImage, Metric, Task
from tlvision.terminal import console
from tlvision.types import Dataset, Prediction, RunError, Sample

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.config.schema import Config

TURNS = 100
"""Timed images of each variant."""
_MEMORY = """
import resource, sys
if sys.argv[1] == "torch":
    import torch
    from tlvision.engine.model import load
    torch.set_num_threads(int(sys.argv[3]))
    model = load(sys.argv[2], device="cpu")
else:
    import tlvision.runtime
    model = tlvision.runtime.load(sys.argv[2], threads=int(sys.argv[3]))
for path in sys.argv[4:]:
    model.predict(path)
try:  # not getrusage, which on Linux counts the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    print(1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds from the network input of one image to its objects or scores: median, and 95 of 100 are below."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The data that variants are measured on, and how.

    metric: the first of the task.
    """

    config: Config
    task: Task
    data: Dataset
    fabric: Fabric
    metric: Metric

    def measure(self, found: Iterable[tuple[Sample, Prediction]]) -> tuple[dict[str, float], PerImage | None]:
        """Return the metrics of predictions for all samples, flat, and the results image by image."""
        with TemporaryDirectory(prefix="tlvision-compress-") as folder:
            out = Path(folder)
            evaluator = build_evaluator(self.config, self.task, self.data, out=out, fabric=self.fabric, workers=0)
            values = evaluator.measure_predictions(found)
            if not isinstance(self.task, HasPerImage):
                return values, None
            results, options = out / self.task.results_name, measure_options(self.config)
            return values, self.task.per_image(evaluator.ground_truth, results, self.data, options)

    def part(self, positions: Sequence[int], folder: Path) -> Bench:
        """Return a bench with some of the images; its ground truth is written into `folder`."""
        samples = [self.data.samples[position] for position in positions]
        data = self.task.subset(self.data, samples, folder / "labels.json", write=True)
        return Bench(config=self.config, task=self.task, data=data, fabric=self.fabric, metric=self.metric)


@dataclass(slots=True, kw_only=True)
class Variant:
    """One variant with what was measured; None where it was not.

    name:       of its row. folder: of its bundle. kind: what was done to the model.
    value:      of the metric. low, high: its 95 % interval over the images.
    drop:       value of the reference minus its own, in the direction in which more is worse. drop_low, drop_high:
                95 % interval of a paired bootstrap.
    worst:      class with the lowest value, worst_value: that value.
    megabytes:  of its graphs. memory: peak of a process that predicts, in megabytes.
    stress:     mean relative loss on corrupted images.
    """

    name: str
    folder: Path
    kind: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    worst: str | None = None
    worst_value: float | None = None
    megabytes: float | None = None
    latency: Latency | None = None
    memory: float | None = None
    stress: float | None = None
    notes: list[str] = field(default_factory=list)


def measure_metrics(bench: Bench, variants: Sequence[Variant], models: Mapping[str, RuntimeModel]) -> None:
    """Fill in the metric of each variant, its interval, and its drop against the first one."""
    results: list[PerImage] = []
    for variant in variants:
        steps = models[variant.name].predict_samples(bench.data.samples)
        shown = track(steps, f"metric of {variant.name}", len(bench.data.samples), console=console(), transient=True)
        values, each = bench.measure(shown)
        variant.value = values.get(bench.metric.name)
        if each is not None:
            results.append(each)
    if len(results) < len(variants):
        return
    resampled = bootstrap(results)
    name, sign = bench.metric.name, -1 if bench.metric.higher_is_better else 1
    for position, variant in enumerate(variants):
        variant.low, variant.high = resampled.interval(name, [position]) or (None, None)
        variant.worst, variant.worst_value = _worst_class(resampled, name.split("/")[0], position)
        gap = resampled.difference(name, [0], [position], higher_is_better=bench.metric.higher_is_better)
        if position and gap.difference is not None and gap.low is not None and gap.high is not None:
            variant.drop = sign * gap.difference
            variant.drop_low, variant.drop_high = sorted((sign * gap.low, sign * gap.high))


def _worst_class(resampled: Bootstrap, kind: str, position: int) -> tuple[str | None, float | None]:
    """Return the class with the lowest value of a kind of metrics, and the value; None if no class is measured."""
    rows = {key: float(values[position, 0]) for key, values in resampled.values.items() if key.startswith(f"{kind}/")}
    classes = {key.split(" ", 1)[1]: value for key, value in rows.items() if " " in key and not np.isnan(value)}
    if not classes:
        return None, None
    worst = min(classes, key=lambda key: classes[key])
    return worst, classes[worst]


def measure_latency(
    steps: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any], turns: int = TURNS
) -> dict[str, Latency]:
    """Return the latency of each step, a function of one input; they take turns, so that noise meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(inputs[0])  # caches and shapes
    for turn in track(range(turns), "latency", console=console(), transient=True):
        for name, step in steps.items():
            start = time.perf_counter()
            step(inputs[turn % len(inputs)])
            times[name].append(1000 * (time.perf_counter() - start))
    return {
        name: Latency(median=float(np.median(each)), p95=float(np.quantile(each, 0.95))) for name, each in times.items()
    }


def network_inputs(model: RuntimeModel, samples: Sequence[Sample]) -> list[Any]:
    """Return the network input of each sample, (1, 3, H, W) float32; of images in tiles, the first tile."""
    inputs = []
    for sample in samples:
        images = model.inputs([sample])
        inputs.append(prepare([images.draw(0)[0]], images.input_spec))
    return inputs


def peak_memory(folder: Path, images: Sequence[Path], threads: int, *, torch: bool = False) -> float:
    """Return the peak memory in megabytes of a process that predicts these images with a bundle.

    torch: `folder` is a run instead, which torch runs.

    Raises RunError if it fails.
    """
    command = [sys.executable, "-c", _MEMORY, "torch" if torch else "bundle", str(folder), str(threads)]
    done = subprocess.run([*command, *map(str, images)], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RunError(f"compress: a process that predicts with '{folder}' failed: {lines[-1]}")
    return float(done.stdout.split()[-1]) / 1e6


def size_of(model: RuntimeModel) -> float:
    """Return the size of a bundle's graphs in megabytes."""
    files = [path for name in model.bundle.graphs.values() for path in model.folder.glob(f"{Path(name).stem}.*")]
    return sum(path.stat().st_size for path in files) / 1e6


def spread(samples: Sequence[Sample], count: int) -> list[int]:
    """Return the positions of at most `count` samples, evenly spread.

    >>> spread([None] * 10, 3)
    [0, 4, 9]
    """
    return [*np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)).tolist()]
