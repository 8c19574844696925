"""Read the datasets in the section `data` of a config with the run's task."""

from __future__ import annotations

from tlvision.config.schema import Config, DatasetSettings, DataSettings
from tlvision.formats.label_maps import read_class_file
from tlvision.tasks import LabelOptions, MeasureOptions, Source, Task
from tlvision.types import ClassMap, Dataset


def read_data(config: Config, task: Task, classes: ClassMap | None = None) -> tuple[Dataset, Dataset]:
    """Read the training and the validation data; the classes of the first hold for the second.

    classes: the classes of a run that is resumed; the data must still have them.
    """
    data = config.data
    train = task.read(source_of(data.train, "train"), label_options(data), classes)
    name = "val" if data.val is not None else "source_val"
    options = label_options(with_bits(data, train))
    return train, task.read(source_of(data.evaluated, name), options, train.classes)


def with_bits(data: DataSettings, train: Dataset) -> DataSettings:
    """Return the settings with the bit depth that was measured on the training images, if they have 16-bit values."""
    if train.bits is None or data.bits is not None:
        return data
    return data.model_copy(update={"bit_depth": train.bits})


def read_source_val(config: Config, task: Task, classes: ClassMap) -> Dataset | None:
    """Read `data.source_val` if it is evaluated in addition to `data.val`; None if it is absent or the only one."""
    settings = config.data.source_val
    if settings is None or config.data.val is None:
        return None
    return task.read(source_of(settings, "source_val"), label_options(config.data), classes)


def source_of(settings: DatasetSettings, name: str) -> Source:
    """Return where a dataset of the config lies; `name` is its key below `data`, for messages."""
    return Source(name=name, images=settings.images, json=settings.json_, masks=settings.masks)


def label_options(data: DataSettings) -> LabelOptions:
    """Return how labels are read, with `data.classes` read from its file if it is one."""
    classes = data.classes
    if isinstance(classes, str):
        classes = list(read_class_file(classes).names)
    return LabelOptions(
        classes=tuple(classes) if isinstance(classes, list) else classes,
        ignore_value=data.ignore_value,
        unlabelled=data.unlabelled,
        exif=data.exif,
        bits=data.bits,
    )


def measure_options(config: Config) -> MeasureOptions:
    """Return how predictions are measured."""
    return MeasureOptions(max_detections=config.evaluate.max_detections, boundary=config.evaluate.boundary)
