"""The task whose labels are label maps: one class for each pixel ("semantic")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from tlvision.data.dataset import TargetParts
from tlvision.data.targets import semantic_map
from tlvision.evaluation import label_map_iou
from tlvision.evaluation.label_map_files import label_maps_per_image
from tlvision.evaluation.per_image import LabelMapsPerImage
from tlvision.files.names import stems_in
from tlvision.formats.coco import CocoData
from tlvision.formats.label_maps import LabelMapData, count_pixels, read_label_maps, read_panoptic, write_label_map
from tlvision.tasks.base import UNIT, LabelKind, LabelOptions, MeasureOptions, Metric, Source, Task
from tlvision.tasks.label_map_results import LabelMapResults, read_maps
from tlvision.tasks.label_values import label_values
from tlvision.tasks.object_checks import check_train, unmeasured_classes
from tlvision.tasks.pixel_checks import check_pixels, check_two_classes
from tlvision.tasks.reading import read_json
from tlvision.types import IGNORE_INDEX, ClassMap, Dataset, InputError, InputSpec, Prediction, Sample, Target

BACKGROUND = "background"
"""The class of pixels that no object of a COCO json covers."""
METRICS = (
    "mean_class_iou",
    "mean_class_dice",
    "mean_class_accuracy",
    "mean_class_boundary_iou",
    "pixel_accuracy",
    "frequency_weighted_iou",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticTask:
    """Task on label maps, from files or drawn from a COCO json; `tlvision.tasks.base.Task` describes the methods."""

    name: str = "semantic"
    noun: str = "label maps"
    labels: frozenset[LabelKind] = field(default=frozenset({"label_map"}))
    capabilities: frozenset[str] = frozenset({"HasDenseLogits"})
    settings: frozenset[str] = frozenset(
        {"evaluate.window", "evaluate.boundary", "data.augment.crop_limit", "data.augment.crop_class_aware"}
    )
    max_objects: int | None = None
    results_name: str = "predictions"

    def read(
        self, source: Source, options: LabelOptions, classes: ClassMap | None, *, require_objects: bool = True
    ) -> Dataset:
        """Read a folder of label maps, a COCO panoptic json, or a COCO json whose objects are drawn."""
        if source.masks is None:
            coco = read_json(
                source, options, classes, task=self.name, require_objects=require_objects, require_masks=True
            )
            return with_background(coco) if options.unlabelled == "background" else coco
        if source.json is not None:
            if options.classes is not None:
                raise InputError(
                    "data.classes: a panoptic json has its own classes. Remove the names; to use some of them: "
                    "data.classes.only"
                )
            return read_panoptic(
                source.json,
                source.images,
                source.masks,
                classes,
                changes=options.changes,
                only=options.only,
                exif=options.exif,
                bits=options.bits,
            )
        known = label_values(options, classes)
        return read_label_maps(
            source.images,
            source.masks,
            classes or known.classes,
            known.values,
            coloured=known.coloured,
            exif=options.exif,
            bits=options.bits,
        )

    def measured_as(self, source: Source) -> Task:
        """Return this task."""
        return self

    def subset(
        self, data: Dataset, samples: Sequence[Sample], truth: Path | None = None, *, write: bool = False
    ) -> Dataset:
        """Return some samples; their ground truth is written from them."""
        part = replace(as_readable(data), samples=tuple(samples))
        if not isinstance(part, LabelMapData):
            return part
        pixels, ignored = count_pixels(samples, len(part.classes))
        return replace(part, pixels=pixels, ignored=ignored)

    def targets(self, data: Dataset, options: LabelOptions) -> TargetParts:
        """Return a label map."""
        return TargetParts(label_map=True, background=background_index(data, options))

    def metrics(self, max_detections: int = 100) -> tuple[Metric, ...]:
        """Return the overall numbers of `tlvision.evaluation.class_iou`."""
        return tuple(Metric(f"semantic/{name}", range=UNIT) for name in METRICS)

    def check_train(self, train: Dataset) -> list[str]:
        """Check that there are at least two classes."""
        check_two_classes(train)
        if isinstance(train, LabelMapData):
            check_pixels(train, "learn")
            return []
        return check_train(train, but=(BACKGROUND,))

    def check_sizes(self, train: Dataset, input_spec: InputSpec, image_size: int) -> list[str]:
        """Return nothing: regions of any size are learned."""
        return []

    def check_measurable(self, val: Dataset, measure: MeasureOptions, select: str) -> list[str]:
        """Check that two classes have pixels, and return a note on classes of a json without an object."""
        if isinstance(val, LabelMapData):
            check_pixels(val, "measure")
            return []
        return unmeasured_classes(cast("CocoData", val))

    def check_limits(self, val: Dataset, *, counts: int, gives: int) -> list[str]:
        """Return nothing: there are no objects to count."""
        return []

    def ground_truth(self, data: Dataset, options: LabelOptions, out: Path, *, write: bool) -> Path:
        """Return the user's folder if its values are class indices, else one that is drawn."""
        if isinstance(data, LabelMapData) and all(_is_index_map(data, sample) for sample in data.samples):
            return data.path
        folder, background = out / "ground_truth", background_index(data, options)
        if write:
            stems = stems_in([sample.path for sample in data.samples], data.images_dir)
            for sample, stem in zip(data.samples, stems, strict=True):
                path = folder / f"{stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_label_map(path, semantic_map(sample, background))
        return folder

    def results(self, path: Path, data: Dataset) -> LabelMapResults:
        """Return a writer of <stem>.png for each image; `tlvision.files.names.stems_in` gives the names."""
        return LabelMapResults(path, _stems(data))

    def named_results(
        self, folder: Path, classes: ClassMap, names: Mapping[int, str], stems: Mapping[int, str]
    ) -> LabelMapResults:
        """Return a writer of label_maps/<stem>.png."""
        return LabelMapResults(folder / "label_maps", stems)

    def measure(self, truth: Path, predictions: Path, data: Dataset, options: MeasureOptions) -> dict[str, Any]:
        """Return IoU and accuracies; see `tlvision.evaluation.label_map_iou`."""
        stems = list(_stems(data).values())
        return label_map_iou(
            truth,
            predictions,
            data.classes.names,
            stems=stems,
            boundary=options.boundary,
            analysis=options.analysis,
        )

    def per_image(self, truth: Path, predictions: Path, data: Dataset, options: MeasureOptions) -> LabelMapsPerImage:
        """Return the pixels of each label map."""
        return label_maps_per_image(truth, predictions, data.classes.names, stems=sorted(_stems(data).values()))

    def read_results(
        self, path: Path, data: Dataset, positions: Sequence[int], options: LabelOptions, min_score: float
    ) -> Iterator[tuple[Prediction, Target]]:
        """Yield label maps, predicted and labelled."""
        stems, samples = _stems(data), [data.samples[position] for position in positions]
        paths = [path / f"{stems[sample.image_id]}.png" for sample in samples]
        return read_maps(paths, samples, background_index(data, options))


def _stems(data: Dataset) -> dict[int, str]:
    """Return the name without suffix of the label map of each image id."""
    paths = [sample.path for sample in data.samples]
    ids = [sample.image_id for sample in data.samples]
    return dict(zip(ids, stems_in(paths, data.images_dir), strict=True))


def as_readable(data: Dataset) -> CocoData | LabelMapData:
    """Return the dataset as one of the formats that label maps come from; TypeError if it is another."""
    if not isinstance(data, CocoData | LabelMapData):
        raise TypeError(f"expected label maps or a COCO json, got {type(data).__name__}")
    return data


def with_background(data: CocoData) -> CocoData:
    """Return the data with a class for what no object covers, behind the others, where no class has that name."""
    if BACKGROUND in data.classes.names:
        # No json need have it: that a file lacks it is not worth a note.
        lacks = f"{data.path.name}: it has no class {BACKGROUND}"
        return replace(data, skipped=tuple(note for note in data.skipped if note != lacks))
    classes = ClassMap((*data.classes.names, BACKGROUND), (*data.classes.source_ids, max(data.classes.source_ids) + 1))
    return replace(data, classes=classes)


def background_index(data: Dataset, options: LabelOptions) -> int | None:
    """Return the index of the class of pixels that no object covers; None if those are not known."""
    if isinstance(data, LabelMapData) or options.unlabelled == "ignore":
        return None
    return data.classes.index(BACKGROUND)


def _is_index_map(data: LabelMapData, sample: Sample) -> bool:
    file = sample.label_map
    if file is None or file.coloured or file.values.get(IGNORE_INDEX) != IGNORE_INDEX:
        return False
    stem = sample.path.relative_to(data.images_dir).with_suffix(".png")
    return file.path == data.path / stem and all(value == index for value, index in file.values.items())


SEMANTIC = SemanticTask()
