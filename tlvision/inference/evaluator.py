"""From a model to metrics, through files that anyone can check: the ground truth and the predictions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tlvision.evaluation import Analysis
from tlvision.evaluation.summary import headlines
from tlvision.files.atomic import copy_any
from tlvision.files.json_files import write_json
from tlvision.inference.predict import Tiling, make_inputs, predict_samples, using_weights
from tlvision.tasks import MeasureOptions, Metric, Task
from tlvision.types import InputError, nearest

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from tlvision.data.dataset import EvalImages
    from tlvision.plugin import Adapter
    from tlvision.types import Dataset, Prediction, Sample


@dataclass(slots=True, kw_only=True)
class Evaluator:
    """Evaluates a model on one dataset.

    task:         writes and measures the predictions.
    data:         the images and their labels.
    ground_truth: the file or folder that `Task.ground_truth` returns.
    out:          the folder that gets `Task.results_name` and metrics.json, fresh after every evaluation.
    measure:      how predictions are measured.
    window:       side in pixels of the sliding window of segmenters; 0 for whole images.
    tiles:        how large images are cut; None for whole images.
    cache_bytes:  size of the cache of decoded images; None lets the memory of the machine decide.
    images:       the network inputs; None makes them from `data` in the first evaluation, and they are kept.
    left_out:     predictions of the last evaluation whose class the ground truth does not have; they count nowhere.
    """

    task: Task
    data: Dataset
    ground_truth: Path
    out: Path
    fabric: Fabric
    image_size: int
    batch_size: int
    workers: int
    measure: MeasureOptions = field(default_factory=MeasureOptions)
    window: int = 0
    tiles: Tiling | None = None
    cache_bytes: int | None = None
    images: EvalImages | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0

    def evaluate(self, adapter: Adapter, weights: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Predict with `weights` (None: the model's own), write predictions and metrics, and return the metrics, flat.

        Under several processes each predicts its share; all return the same. "bbox/AP", "semantic/mean_class_iou" and
        so on; what cannot be measured (no object of that size) is left out. Raises RunError if a prediction lacks what
        the task is about.
        """
        with using_weights(adapter.module, weights):
            return self.measure_predictions(self._predict(adapter))

    def measure_predictions(self, found: Iterable[tuple[Sample, Prediction]]) -> dict[str, float]:
        """Write predictions, in pixels of their images, and measure them; otherwise as `evaluate`.

        found: a prediction for each sample of the data, of this process's share.
        """
        results = self.task.results(self.out / self.task.results_name, self.data)
        main = self.fabric.is_global_zero
        if main:
            results.prepare()
        self.fabric.barrier()
        for sample, prediction in found:
            results.add(sample, prediction)
        if self.fabric.world_size > 1:
            shares: list[Any] = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(shares, results.share())
            results.merge(shares)
        self.left_out = results.left_out
        if main:
            results.write()
            measured = self.task.measure(self.ground_truth, results.path, self.data, self.measure)
            self.metrics = {"task": self.task.name, **measured}
            write_json(self.out / "metrics.json", self.metrics, indent=1, nan="null")
        if self.fabric.world_size > 1:
            self.metrics = self.fabric.broadcast(self.metrics, src=0)
        values = flatten(self.metrics)
        for metric in self.task.metrics(self.measure.max_detections):
            metric.check(values)
        return values

    def analyse(self, results: Path, analysis: Analysis) -> dict[str, Any]:
        """Return what the headline numbers do not say about predictions that an evaluation has left in `results`.

        The keys `analysis` and `intervals` of metrics.json, as far as the task has them.
        """
        options = replace(self.measure, analysis=analysis)
        measured = self.task.measure(self.ground_truth, results, self.data, options)
        return {key: measured[key] for key in ("analysis", "intervals") if key in measured}

    def _predict(self, adapter: Adapter) -> Iterator[tuple[Sample, Prediction]]:
        if self.images is None:  # kept, with its cache of decoded images, for the next evaluation
            self.images = make_inputs(
                adapter, self.data.samples, self.image_size, self.tiles, cache_bytes=self.cache_bytes
            )
        yield from predict_samples(
            adapter,
            self.images,
            fabric=self.fabric,
            batch_size=self.batch_size,
            workers=self.workers,
            window=self.window,
        )

    def copy_results(self, folder: Path) -> None:
        """Copy the files of the last evaluation into `folder`, if there was one."""
        if not (self.out / "metrics.json").exists():
            return
        for name in (self.task.results_name, "metrics.json"):
            shutil.rmtree(folder / name, ignore_errors=True)
            copy_any(self.out / name, folder / name)


def flatten(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the headline numbers of metrics.json as {"bbox/AP": value}, without missing ones.

    >>> flatten({"task": "detect", "bbox": {"AP": 0.5, "APs": None}, "per_class": {"a": {"AP": 0.5}}})
    {'bbox/AP': 0.5}
    """
    return {
        f"{kind}/{name}": float(value)
        for kind, numbers in headlines(metrics).items()
        for name, value in numbers.items()
        if isinstance(value, int | float)
    }


def resolve_select(select: str, task: Task, max_detections: int = 100) -> Metric:
    """Return the metric that `evaluate.select` names; "auto" is the first of the task.

    max_detections: detections that count for an image and class, after which average recall is named.

    Raises InputError if a model for `task` has no metric of that name.

    >>> from tlvision.tasks.registry import built_in_tasks
    >>> [resolve_select("auto", task).name for task in built_in_tasks()]
    ['bbox/AP', 'segm/AP', 'semantic/mean_class_iou']
    """
    metrics = {metric.name: metric for metric in task.metrics(max_detections)}
    if select == "auto":
        return next(iter(metrics.values()))
    if select not in metrics:
        known = ["auto", *metrics]
        raise InputError(f"evaluate.select: the task '{task.name}' has no metric '{select}'.{nearest(select, known)}")
    return metrics[select]
