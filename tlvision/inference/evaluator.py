"""From a model to metrics, through the two files that anyone can check: the ground truth and predictions.json."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tlvision.data.dataset import EvalImages
from tlvision.evaluation import coco_map, instance_map, three_limits
from tlvision.files.json_files import write_json
from tlvision.formats.coco import CocoData, result_rows
from tlvision.inference.predict import predict_samples, using_weights
from tlvision.types import InputError, RunError, nearest

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from tlvision.plugin import Adapter, Task


@dataclass(slots=True, kw_only=True)
class Evaluator:
    """Evaluates a model on one dataset.

    task:         "detect" compares boxes, "instance" boxes and masks.
    data:         the images and their ground truth.
    ground_truth: the json that is evaluated against; `data.path`, or a copy restricted to the run's classes.
    cache_bytes:  size of the cache of decoded images; None lets the memory of the machine decide.
    max_detections: detections that count for an image and class.
    out:          the folder that gets predictions.json and metrics.json, fresh after every evaluation.
    left_out:     detections of the last evaluation whose class the ground truth does not have; they count nowhere.
    """

    task: Task
    data: CocoData
    ground_truth: Path
    out: Path
    fabric: Fabric
    image_size: int
    batch_size: int
    workers: int
    cache_bytes: int | None = None
    max_detections: int = 100
    metrics: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0
    _images: EvalImages | None = None

    def evaluate(self, adapter: Adapter, weights: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Predict with `weights` (None: the model's own), write both files, and return the metrics, flat.

        Under several processes each predicts its share; all return the same. "bbox/AP", "segm/AP" and so on, each
        0..1; what cannot be measured (no object of that size) is left out. Raises RunError where a model for the task
        "instance" gives no masks.
        """
        with using_weights(adapter.module, weights):
            rows, left_out = self._predict(adapter)
        self.left_out = left_out.total()
        if self.fabric.is_global_zero:
            path = self.out / "predictions.json"
            write_json(path, rows)
            measure = instance_map if self.task == "instance" else coco_map
            self.metrics = measure(self.ground_truth, path, max_detections=three_limits(self.max_detections))
            write_json(self.out / "metrics.json", self.metrics, indent=1, nan="null")
        if self.fabric.world_size > 1:
            self.metrics = self.fabric.broadcast(self.metrics, src=0)
        return flatten(self.metrics)

    def _predict(self, adapter: Adapter) -> tuple[list[dict[str, Any]], Counter[int]]:
        """Return the rows of predictions.json by image id, and the detections left out by class, of all processes."""
        if self._images is None:  # kept, with its cache of decoded images, for the next evaluation
            self._images = EvalImages(
                self.data.samples, adapter.input_spec, self.image_size, cache_bytes=self.cache_bytes
            )
        found = predict_samples(
            adapter, self._images, fabric=self.fabric, batch_size=self.batch_size, workers=self.workers
        )
        rows: list[dict[str, Any]] = []
        left_out: Counter[int] = Counter()
        for sample, prediction in found:
            if self.task == "instance" and prediction.masks is None:
                raise RunError("the model's predict() gives no masks, which the task 'instance' needs; mend the plugin")
            # At once, and before they go to other processes: masks of full size would fill the memory.
            some, others = result_rows(sample.image_id, prediction, self.data.category_ids)
            rows += some
            left_out += others
        if self.fabric.world_size > 1:
            shares: list[Any] = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(shares, (rows, left_out))
            rows = [row for share, _ in shares for row in share]
            left_out = sum((others for _, others in shares), Counter())
        return sorted(rows, key=lambda row: row["image_id"]), left_out

    def copy_results(self, folder: Path) -> None:
        """Copy the files of the last evaluation into `folder`, if there was one."""
        for name in ("predictions.json", "metrics.json"):
            if (self.out / name).exists():
                shutil.copyfile(self.out / name, folder / name)


def flatten(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of metrics.json as {"bbox/AP": value}, without per-class ones and without missing ones.

    >>> flatten({"task": "detect", "bbox": {"AP": 0.5, "APs": None}})
    {'bbox/AP': 0.5}
    """
    return {
        f"{kind}/{name}": float(value)
        for kind in ("bbox", "segm", "semantic")
        for name, value in metrics.get(kind, {}).items()
        if isinstance(value, int | float)
    }


COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

SEMANTIC_METRICS = (
    "mean_class_iou",
    "mean_class_dice",
    "mean_class_accuracy",
    "mean_class_boundary_iou",
    "pixel_accuracy",
    "frequency_weighted_iou",
)


def metric_names(task: Task, most: int = 100) -> list[str]:
    """Return the metrics that a model for `task` has, that of the task first.

    most: detections that count for an image and class, after which average recall is named.
    """
    limits = dict(zip(("AR1", "AR10", "AR100"), (f"AR{limit}" for limit in three_limits(most)), strict=True))
    coco = [limits.get(name, name) for name in COCO_METRICS]
    kinds = {"detect": ("bbox",), "instance": ("segm", "bbox"), "semantic": ("semantic",)}[task]
    return [f"{kind}/{name}" for kind in kinds for name in (SEMANTIC_METRICS if kind == "semantic" else coco)]


def resolve_select(select: str, task: Task, most: int = 100) -> str:
    """Return the metric that `evaluate.select` stands for; "auto" is box AP, mask AP or mean class IoU, by the task.

    Raises InputError where a model for `task` has no metric of that name.

    >>> resolve_select("auto", "instance"), resolve_select("auto", "detect"), resolve_select("bbox/AP50", "instance")
    ('segm/AP', 'bbox/AP', 'bbox/AP50')
    """
    metrics = metric_names(task, most)
    if select == "auto":
        return metrics[0]
    known = ["auto", *metrics]
    if select not in known:
        raise InputError(f"evaluate.select: the task '{task}' has no metric '{select}'.{nearest(select, known)}")
    return select
