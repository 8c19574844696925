"""From a model to metrics, through the two files that anyone can check: the ground truth and predictions.json."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tlvision.coco import CocoData, write_predictions
from tlvision.data.dataset import EvalImages
from tlvision.evaluation import coco_map
from tlvision.training.checkpoint import write_json
from tlvision.training.inference import predict_samples, using_weights
from tlvision.types import InputError, nearest

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from tlvision.plugin import Adapter
    from tlvision.types import Prediction


@dataclass(slots=True, kw_only=True)
class Evaluator:
    """Evaluates a detector on one dataset.

    data:         the images and their ground truth.
    ground_truth: the json that is evaluated against; `data.path`, or a copy restricted to the run's classes.
    cache_bytes:  size of the cache of decoded images; None lets the memory of the machine decide.
    out:          the folder that gets predictions.json and metrics.json, fresh after every evaluation.
    left_out:     detections of the last evaluation whose class the ground truth does not have; they count nowhere.
    """

    data: CocoData
    ground_truth: Path
    out: Path
    fabric: Fabric
    image_size: int
    batch_size: int
    workers: int
    cache_bytes: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0
    _images: EvalImages | None = None

    def evaluate(self, adapter: Adapter, weights: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Predict with `weights` (None: the model's own), write both files, and return the metrics, flat.

        Under several processes each predicts its share; all return the same. "bbox/AP" and so on, each 0..1; what
        cannot be measured (no object of that size) is left out.
        """
        with using_weights(adapter.module, weights):
            items = self._predict(adapter)
        if self.fabric.is_global_zero:
            path = self.out / "predictions.json"
            self.left_out = sum(write_predictions(path, items, self.data.category_ids).left_out.values())
            self.metrics = coco_map(self.ground_truth, path)
            write_json(self.out / "metrics.json", self.metrics)
        if self.fabric.world_size > 1:
            self.metrics = self.fabric.broadcast(self.metrics, src=0)
        return flatten(self.metrics)

    def _predict(self, adapter: Adapter) -> list[tuple[int, Prediction]]:
        if self._images is None:  # kept, with its cache of decoded images, for the next evaluation
            self._images = EvalImages(
                self.data.samples, adapter.input_spec, self.image_size, cache_bytes=self.cache_bytes
            )
        found = predict_samples(
            adapter, self._images, fabric=self.fabric, batch_size=self.batch_size, workers=self.workers
        )
        items = sorted(((sample.image_id, prediction) for sample, prediction in found), key=lambda item: item[0])
        if self.fabric.world_size == 1:
            return items
        shares: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(shares, items)
        return sorted((item for share in shares for item in share), key=lambda item: item[0])

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


DETECTION_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def check_select(select: str) -> None:
    """Raise InputError where `evaluate.select` names no metric of a detector."""
    known = [f"bbox/{name}" for name in DETECTION_METRICS]
    if select not in known:
        raise InputError(f"evaluate.select: no metric '{select}'.{nearest(select, known)}")
