"""The contract with a task: an object that reads labels, writes and measures predictions, and checks data.

A run asks its task in this order:

    task = get_task(plugin.task_of(arch))
    train = task.read(source, options, None)         # labels of the training images
    task.check_train(train), task.check_sizes(…)     # is there something to learn
    task.check_measurable(val, …)                    # is there something to measure
    task.targets(train, options)                     # what training targets hold
    truth = task.ground_truth(val, options, out, write=True)
    results = task.results(out / task.results_name, val)
    results.add(sample, prediction), results.write()
    task.measure(truth, out / task.results_name, val, measure)
    task.read_results(out / task.results_name, …)    # predictions with labels, for pictures

A new task is one module with such an object and an entry point of the group `tlvision.tasks`; `ObjectTask` and
`SemanticTask` may be subclassed. Loading, the loop, hooks and reports ask a task only what is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from tlvision.evaluation import Analysis
from tlvision.types import ClassChanges, ClassMap, Dataset, InputSpec, Prediction, RunError, Sample, Target

if TYPE_CHECKING:
    from tlvision.data.dataset import TargetParts
    from tlvision.evaluation.per_image import PerImage
    from tlvision.formats.orientation import Exif

LabelKind = Literal["boxes", "masks", "label_map"]
PixelValue = int | Sequence[int]
"""A value in label maps: 0..255, or of label maps in colour red, green and blue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The location of one dataset's labels.

    name:   the key of the config below `data`, such as "train", for messages.
    images: folder of the images.
    json:   a COCO json, or with `masks` a COCO panoptic json; or None.
    masks:  folder of label maps; or None.
    """

    name: str
    images: str
    json: str | None = None
    masks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """Settings for reading labels: the keys of `data` that all datasets of a run share.

    classes:      names in order; names with their values in label maps; None takes the classes of the file.
    changes:      what is made of the classes of the files.
    only:         the classes that are used then, in this order; None uses all.
    ignore_value: value, or colour, in label maps that means "unknown".
    unlabelled:   class of pixels without an object if label maps are drawn from a COCO json; "ignore" means unknown.
    exif:         whether labels were drawn on images as shown or as stored.
    bits:         bits in use of images with 16-bit values; None measures them.
    """

    classes: tuple[str, ...] | Mapping[str, PixelValue] | None = None
    changes: ClassChanges = field(default_factory=ClassChanges)
    only: tuple[str, ...] | None = None
    ignore_value: PixelValue = 255
    unlabelled: Literal["background", "ignore"] = "background"
    exif: Exif = "auto"
    bits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions:
    """Settings for measuring predictions.

    max_detections: detections that count for an image and class, from 3 on.
    boundary:       whether to measure boundary IoU of label maps as well.
    analysis:       also return `analysis`: what the headline numbers do not say; None in evaluations during training.
    """

    max_detections: int = 100
    boundary: bool = False
    analysis: Analysis | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of an evaluation.

    name:             "<kind>/<number>", as `metrics.json` nests them: "bbox/AP".
    higher_is_better: its direction.
    range:            lowest and highest value; a measured value outside of it is an error.

    >>> Metric("points/distance", higher_is_better=False, range=(0, math.inf)).check({"points/distance": 3.5})
    """

    name: str
    higher_is_better: bool = True
    range: tuple[float, float] = (-math.inf, math.inf)

    def check(self, values: Mapping[str, float]) -> None:
        """Raise RunError if the metric is among the measured values, {name: value}, and outside of its range."""
        value = values.get(self.name)
        low, high = self.range
        if value is not None and not low <= value <= high:
            raise RunError(
                f"metric '{self.name}': {value} is outside of its range, {low:g} to {high:g}. This is a bug in the "
                "task that measures it."
            )


UNIT: tuple[float, float] = (0.0, 1.0)
"""The range of shares, such as precision, recall and IoU."""


class Results(Protocol):
    """Predictions on their way into files, in one process or several.

    path:     the file or folder that `write` makes.
    title:    two or three words for what that holds.
    left_out: predictions added so far, of all processes once merged, of a class that the ground truth does not have.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def left_out(self) -> int: ...  # noqa: D102

    def prepare(self) -> None:
        """Remove what an earlier evaluation left at `path`; called in the first process, before any `add`."""
        ...

    def add(self, sample: Sample, prediction: Prediction) -> None:
        """Take the prediction for one image, numpy arrays in pixels of the original image; keep no full-size mask."""
        ...

    def share(self) -> object:
        """Return the part of this process, which is pickled and sent to the others."""
        ...

    def merge(self, shares: Sequence[object]) -> None:
        """Replace the results of this process by those of all processes."""
        ...

    def write(self) -> None:
        """Finish the files; called in the first process, after `merge` if there are several."""
        ...


class Task(Protocol):
    """One kind of prediction.

    name:         how plugins and `metrics.json` name it: "detect".
    noun:         the predicted objects, for messages: "boxes".
    labels:       what targets and predictions hold.
    capabilities: names of the capability Protocols that every model for this task has, and none for another.
    settings:     keys of a config that have an effect on this task and not on every other.
    max_objects:  objects of an image that a model usually gives at most; None if it finds no objects.
    results_name: name of the file or folder of predictions in a run's folder.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def noun(self) -> str: ...  # noqa: D102

    @property
    def labels(self) -> frozenset[LabelKind]: ...  # noqa: D102

    @property
    def capabilities(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def settings(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def max_objects(self) -> int | None: ...  # noqa: D102

    @property
    def results_name(self) -> str: ...  # noqa: D102

    def read(
        self, source: Source, options: LabelOptions, classes: ClassMap | None, *, require_objects: bool = True
    ) -> Dataset:
        """Read one dataset.

        classes:         the classes that labels must index; None takes those of `options` or of the file.
        require_objects: whether a COCO json without annotations is an error.

        Raises InputError if labels of that kind are not for this task.
        """
        ...

    def measured_as(self, source: Source) -> Task:
        """Return the task to measure on `source`: this one, or a simpler one if `source` lacks labels for it."""
        ...

    def subset(
        self, data: Dataset, samples: Sequence[Sample], truth: Path | None = None, *, write: bool = False
    ) -> Dataset:
        """Return the dataset with these samples only.

        truth: where the ground truth of these samples goes, without the objects of other images; None if `ground_truth`
               is to make it, or if they are trained on only.
        write: whether this process writes that file.
        """
        ...

    def targets(self, data: Dataset, options: LabelOptions) -> TargetParts:
        """Return the parts of the training targets of `data`."""
        ...

    def metrics(self, max_detections: int = 100) -> tuple[Metric, ...]:
        """Return the metrics that a model for this task has, the one that selects checkpoints first."""
        ...

    def check_train(self, train: Dataset) -> list[str]:
        """Return notes on classes that cannot be learned; InputError if none can."""
        ...

    def check_sizes(self, train: Dataset, input_spec: InputSpec, image_size: int) -> list[str]:
        """Return notes on labels too small for network inputs of `image_size` pixels; InputError if all are."""
        ...

    def check_measurable(self, val: Dataset, measure: MeasureOptions, select: str) -> list[str]:
        """Return notes on classes that cannot be measured; InputError if `select` cannot be measured on `val`.

        select: a metric; one of another dataset or of unlabelled images is not checked.
        """
        ...

    def check_limits(self, val: Dataset, *, counts: int, gives: int) -> list[str]:
        """Return notes on images with more objects than the evaluation counts a class, or than the model gives."""
        ...

    def ground_truth(self, data: Dataset, options: LabelOptions, out: Path, *, write: bool) -> Path:
        """Return the ground truth that `measure` takes: the user's own, or a copy below `out`.

        write: whether this process writes that copy.
        """
        ...

    def results(self, path: Path, data: Dataset) -> Results:
        """Return a `Results` for the images of `data`."""
        ...

    def named_results(
        self, folder: Path, classes: ClassMap, names: Mapping[int, str], stems: Mapping[int, str]
    ) -> Results:
        """Return a `Results` for images without labels.

        folder: gets the files.
        names:  the file name to write for each image id. stems: a name without suffix, unique on any file system. Both
                are filled as images come: `add` may look up its own sample, and nothing else is known before.
        """
        ...

    def measure(self, truth: Path, predictions: Path, data: Dataset, options: MeasureOptions) -> dict[str, Any]:
        """Return the content of metrics.json: headline numbers by kind, and keys of `evaluation.summary.NOT_HEADLINES`.

        truth: as `ground_truth` returns it. predictions: as `Results.write` left it.
        """
        ...

    def read_results(
        self, path: Path, data: Dataset, positions: Sequence[int], options: LabelOptions, min_score: float
    ) -> Iterator[tuple[Prediction, Target]]:
        """Yield prediction and labels of some samples of `data`, numpy in pixels of the image, for pictures."""
        ...


@runtime_checkable
class HasPerImage(Protocol):
    """Capability of a task: its results can be kept image by image, so that two models can be compared."""

    def per_image(self, truth: Path, predictions: Path, data: Dataset, options: MeasureOptions) -> PerImage:
        """Return the results of one model; arguments as for `Task.measure`. Its first metric is the task's first."""
        ...


def metric_names(task: Task, max_detections: int = 100) -> list[str]:
    """Return the names of a task's metrics, the one that selects checkpoints first."""
    return [metric.name for metric in task.metrics(max_detections)]
