"""From a segmenter to metrics, through two folders of label maps that anyone can check."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.data.dataset import EvalImages
from tlvision.evaluation import label_map_iou
from tlvision.files.json_files import write_json
from tlvision.files.names import stems_in
from tlvision.formats.label_maps import write_label_map
from tlvision.inference.evaluator import flatten
from tlvision.inference.predict import predict_samples, using_weights
from tlvision.types import RunError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from tlvision.formats.coco import CocoData
    from tlvision.formats.label_maps import LabelMapData
    from tlvision.plugin import Adapter


@dataclass(slots=True, kw_only=True)
class SemanticEvaluator:
    """Evaluates a segmenter on one dataset; see `tlvision.inference.evaluator.Evaluator` for detectors.

    data:         the images.
    ground_truth: folder with a label map for each, named as `tlvision.files.names.stems_in` says, as
                  `tlvision.evaluation.label_map_iou` wants it.
    out:          the folder that gets predictions/<stem>.png and metrics.json, fresh after every evaluation.
    window:       side of the sliding window in pixels of the network input; 0 for whole images.
    boundary:     whether to compute boundary IoU as well.
    left_out:     always 0: every pixel gets a class.
    """

    data: CocoData | LabelMapData
    ground_truth: Path
    out: Path
    fabric: Fabric
    image_size: int
    batch_size: int
    workers: int
    window: int = 0
    boundary: bool = False
    cache_bytes: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0
    _images: EvalImages | None = None
    _stems: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = [sample.path for sample in self.data.samples]
        ids = [sample.image_id for sample in self.data.samples]
        self._stems = dict(zip(ids, stems_in(paths, self.data.images_dir), strict=True))

    def evaluate(self, adapter: Adapter, weights: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Predict with `weights` (None: the model's own), write label maps and metrics, and return the metrics, flat.

        Under several processes each predicts its share; all return the same. "semantic/mean_class_iou" and so on, each
        0..1. Raises RunError where a prediction has no label map.
        """
        folder = self.out / "predictions"
        if self.fabric.is_global_zero:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.fabric.barrier()
        with using_weights(adapter.module, weights):
            self._predict(adapter, folder)
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            stems = list(self._stems.values())
            names = self.data.classes.names
            self.metrics = label_map_iou(self.ground_truth, folder, names, stems=stems, boundary=self.boundary)
            write_json(self.out / "metrics.json", self.metrics, indent=1, nan="null")
        if self.fabric.world_size > 1:
            self.metrics = self.fabric.broadcast(self.metrics, src=0)
        return flatten(self.metrics)

    def _predict(self, adapter: Adapter, folder: Path) -> None:
        if self._images is None:  # kept, with its cache of decoded images, for the next evaluation
            self._images = EvalImages(
                self.data.samples, adapter.input_spec, self.image_size, cache_bytes=self.cache_bytes
            )
        found = predict_samples(
            adapter,
            self._images,
            fabric=self.fabric,
            batch_size=self.batch_size,
            workers=self.workers,
            window=self.window,
        )
        for sample, prediction in found:
            if prediction.semantic is None:
                raise RunError("the model gives no scores for pixels (HasDenseLogits); mend the plugin")
            path = folder / f"{self._stems[sample.image_id]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(path, prediction.semantic)

    def copy_results(self, folder: Path) -> None:
        """Copy the results of the last evaluation into `folder`, if there was one."""
        if (self.out / "predictions").is_dir() and (self.out / "metrics.json").exists():
            shutil.rmtree(folder / "predictions", ignore_errors=True)
            shutil.copytree(self.out / "predictions", folder / "predictions")
            shutil.copyfile(self.out / "metrics.json", folder / "metrics.json")
