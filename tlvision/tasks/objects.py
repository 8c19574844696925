"""The tasks whose labels are objects: boxes ("detect"), and boxes with a mask each ("instance")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tlvision.data.dataset import TargetParts
from tlvision.evaluation import coco_map, has_masks, instance_map, three_limits
from tlvision.evaluation.per_image import ObjectsPerImage, objects_per_image
from tlvision.formats.coco import CocoData, write_dataset, write_used
from tlvision.plugin.protocol import DEFAULT_MAX_DETECTIONS, DEFAULT_MAX_MASKS
from tlvision.tasks.base import UNIT, LabelKind, LabelOptions, MeasureOptions, Metric, Source, Task
from tlvision.tasks.object_checks import check_limits, check_measurable, check_sizes, check_train
from tlvision.tasks.object_results import ObjectResults, read_objects
from tlvision.tasks.reading import read_json
from tlvision.types import ClassMap, Dataset, InputSpec, Prediction, Sample, Target

Kind = Literal["bbox", "segm"]
COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTask:
    """Task on objects of a COCO json; `tlvision.tasks.base.Task` describes the methods.

    kinds: IoU types that are measured; the first one selects checkpoints.
    """

    name: str
    noun: str
    kinds: tuple[Kind, ...]
    labels: frozenset[LabelKind]
    max_objects: int | None
    capabilities: frozenset[str] = frozenset()
    settings: frozenset[str] = field(
        default=frozenset(
            {
                "evaluate.max_detections",
                "evaluate.operating_point",
                "evaluate.calibration",
                "model.max_detections",
                "model.score_floor",
                "model.nms_iou",
            },
        )
    )
    results_name: str = "predictions.json"

    @property
    def has_masks(self) -> bool:
        """Return whether every object has a mask."""
        return "masks" in self.labels

    def read(
        self, source: Source, options: LabelOptions, classes: ClassMap | None, *, require_objects: bool = True
    ) -> Dataset:
        """Read a COCO json; every object needs a mask if the task has masks."""
        return read_json(
            source,
            options,
            classes,
            task=self.name,
            require_objects=require_objects,
            require_masks=self.has_masks,
        )

    def measured_as(self, source: Source) -> Task:
        """Return the task on boxes for a json without masks."""
        if not self.has_masks or source.json is None or has_masks(source.json):
            return self
        return DETECT

    def subset(
        self, data: Dataset, samples: Sequence[Sample], truth: Path | None = None, *, write: bool = False
    ) -> Dataset:
        """Return some samples, with a json of their own if they are to be measured on."""
        coco = as_coco(data)
        if truth is None:
            return replace(coco, samples=tuple(samples), kept=frozenset(sample.image_id for sample in samples))
        if write:
            write_dataset(truth, samples, coco.classes, "held-out training images", images_dir=coco.images_dir)
        ids = dict(enumerate(coco.classes.source_ids))
        return replace(coco, path=truth, samples=tuple(samples), category_ids=ids, unusable=frozenset(), kept=None)

    def targets(self, data: Dataset, options: LabelOptions) -> TargetParts:
        """Return boxes, and masks if the task has them."""
        return TargetParts(masks=self.has_masks)

    def metrics(self, max_detections: int = 100) -> tuple[Metric, ...]:
        """Return COCO's twelve numbers of each kind; average recall is named after the number of detections."""
        limits = dict(zip(("AR1", "AR10", "AR100"), (f"AR{n}" for n in three_limits(max_detections)), strict=True))
        return tuple(
            Metric(f"{kind}/{limits.get(name, name)}", range=UNIT) for kind in self.kinds for name in COCO_METRICS
        )

    def check_train(self, train: Dataset) -> list[str]:
        """Return a note on classes without an object."""
        return check_train(train)

    def check_sizes(self, train: Dataset, input_spec: InputSpec, image_size: int) -> list[str]:
        """Return a note on objects that are too small to be learned."""
        return check_sizes(train, input_spec, image_size)

    def check_measurable(self, val: Dataset, measure: MeasureOptions, select: str) -> list[str]:
        """Read the ground truth as the evaluation will, and return a note on classes without an object."""
        return check_measurable(as_coco(val), self.kinds, measure.max_detections, select)

    def check_limits(self, val: Dataset, *, counts: int, gives: int) -> list[str]:
        """Return notes on images with too many objects."""
        return check_limits(val, counts, gives)

    def ground_truth(self, data: Dataset, options: LabelOptions, out: Path, *, write: bool) -> Path:
        """Return the user's json, or a copy without what training leaves out as well.

        That is the images that are not in a subset, the classes that `data.classes` leaves out, and annotations that
        cannot be used: the size of an image that the json does not tell is known here, and not to an evaluation of the
        two files.
        """
        coco = as_coco(data)
        whole = not coco.changes and not coco.unusable and coco.kept is None
        if whole and options.classes is None and options.only is None:
            return coco.path
        copy = out / "ground_truth.json"
        if write:
            write_used(coco, copy)
        return copy

    def results(self, path: Path, data: Dataset) -> ObjectResults:
        """Return a writer of a COCO results file with the category ids of `data`."""
        return ObjectResults(path, as_coco(data).category_ids, masks=self.has_masks)

    def named_results(
        self, folder: Path, classes: ClassMap, names: Mapping[int, str], stems: Mapping[int, str]
    ) -> ObjectResults:
        """Return a writer of predictions.json in which each row names its image and class."""
        ids = dict(enumerate(classes.source_ids))
        return ObjectResults(folder / self.results_name, ids, masks=self.has_masks, names=names, classes=classes)

    def measure(self, truth: Path, predictions: Path, data: Dataset, options: MeasureOptions) -> dict[str, Any]:
        """Return COCO's metrics; see `tlvision.evaluation.coco_map` and `instance_map`."""
        limits = three_limits(options.max_detections)
        if self.has_masks:
            return instance_map(truth, predictions, max_detections=limits, analysis=options.analysis)
        return coco_map(truth, predictions, max_detections=limits, analysis=options.analysis)

    def per_image(self, truth: Path, predictions: Path, data: Dataset, options: MeasureOptions) -> ObjectsPerImage:
        """Return matches of boxes, and of masks if the task has them."""
        return objects_per_image(truth, predictions, self.kinds, max_detections=options.max_detections)

    def read_results(
        self, path: Path, data: Dataset, positions: Sequence[int], options: LabelOptions, min_score: float
    ) -> Iterator[tuple[Prediction, Target]]:
        """Yield objects of at least `min_score`, and labels: masks where the predictions have masks, else boxes."""
        coco = as_coco(data)
        return read_objects(path, [coco.samples[position] for position in positions], coco.category_ids, min_score)


def as_coco(data: Dataset) -> CocoData:
    """Return the dataset as one that has been read from a COCO json; TypeError if it has not."""
    if not isinstance(data, CocoData):
        raise TypeError(f"expected a dataset read from a COCO json, got {type(data).__name__}")
    return data


DETECT = ObjectTask(
    name="detect", noun="boxes", kinds=("bbox",), labels=frozenset({"boxes"}), max_objects=DEFAULT_MAX_DETECTIONS
)
INSTANCE = ObjectTask(
    name="instance",
    noun="boxes and masks",
    kinds=("segm", "bbox"),
    labels=frozenset({"boxes", "masks"}),
    max_objects=DEFAULT_MAX_MASKS,
)
