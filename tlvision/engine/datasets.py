"""Read the datasets in the section `data` of a config with the run's task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlvision.config.schema import ClassSettings, Config, DatasetSettings, DataSettings
from tlvision.data.settings import SubsetSettings
from tlvision.data.subsets import choose
from tlvision.formats.coco import load_document
from tlvision.formats.label_maps import read_class_file, read_label_map
from tlvision.tasks import LabelOptions, MeasureOptions, Source, Task
from tlvision.tasks.base import PixelValue
from tlvision.types import IGNORE_INDEX, ClassChanges, ClassMap, Dataset, InputError, counted, listing


def read_data(config: Config, task: Task, classes: ClassMap | None = None) -> tuple[Dataset, Dataset]:
    """Read the training and the validation data; the classes of the first hold for the second.

    classes: the classes of a run that is resumed; the data must still have them.
    """
    data = config.data
    train = read_dataset(task, data.train, "train", label_options(data), classes)
    name = "val" if data.val is not None else "source_val"
    options = label_options(with_bits(data, train))
    return train, read_dataset(task, data.evaluated, name, options, train.classes)


def read_dataset(
    task: Task,
    settings: DatasetSettings,
    name: str,
    options: LabelOptions,
    classes: ClassMap | None = None,
    *,
    require_objects: bool = True,
) -> Dataset:
    """Read a dataset of the config, or the part of it that `subset` asks for.

    name: its key below `data`; of `subset.fold: [i, k]`, "train" gets the images outside of part i, others part i.

    Raises InputError as `Task.read`, and if the part cannot be drawn.
    """
    data = task.read(source_of(settings, name), options, classes, require_objects=require_objects)
    if settings.subset is None:
        return data
    try:
        groups = _groups(data, settings, settings.subset)
        chosen = choose(settings.subset, _present(data, settings.subset), groups, held=name != "train")
    except InputError as error:
        raise InputError(f"data.{name}.subset: {error}") from None
    return task.subset(data, [data.samples[position] for position in chosen])


def subset_notes(config: Config, parts: Mapping[str, Dataset]) -> list[str]:
    """Return a sentence about each dataset, {key below `data`: dataset}, that is a part of what the files hold."""
    notes = []
    for name, data in parts.items():
        settings: DatasetSettings = getattr(config.data, name)
        if settings.subset is not None:
            kind = {key: value for key, value in settings.subset.model_dump().items() if value is not None}
            how = ", ".join(f"{key} {kind[key]}" for key in ("fraction", "count", "per_class", "fold") if key in kind)
            notes.append(
                f"data.{name}: {counted(len(data.samples), 'image')} of {data.path.name} ({how}, seed {kind['seed']})"
            )
    return notes


def _groups(data: Dataset, settings: DatasetSettings, subset: SubsetSettings) -> list[str] | None:
    """Return the group of each sample, None without `group_by`."""
    if subset.group_by is None:
        return None
    found: list[str | None]
    if subset.pattern is not None:
        matches = [subset.pattern.search(sample.path.name) for sample in data.samples]
        found = [None if match is None else match[1] for match in matches]
    elif settings.json_ is None or settings.masks is not None:
        raise InputError(
            f"group_by: '{subset.group_by}' is a key of the images of a COCO json, and there is none; give a regular "
            "expression with a group in parentheses, which is searched in the file names"
        )
    else:
        rows = load_document(Path(settings.json_), require_objects=False).images
        values = [rows[sample.image_id].get(subset.group_by) for sample in data.samples]
        found = [None if value is None else repr(value) for value in values]
    lost = [sample.path.name for sample, group in zip(data.samples, found, strict=True) if group is None]
    if lost:
        raise InputError(f"group_by: {counted(len(lost), 'image')} without '{subset.group_by}': {listing(lost, 3)}")
    return [group for group in found if group is not None]


def _present(data: Dataset, subset: SubsetSettings) -> npt.NDArray[np.bool_]:
    if subset.per_class is None and not subset.stratify:
        return np.zeros((len(data.samples), len(data.classes)), bool)
    return class_presence(data)


def class_presence(data: Dataset) -> npt.NDArray[np.bool_]:
    """Return (N, C) whether a sample has an object, or a pixel, of a class. Label maps are read for it."""
    present = np.zeros((len(data.samples), len(data.classes)), bool)
    for row, sample in zip(present, data.samples, strict=True):
        if sample.label_map is None:
            row[sample.target.labels[~sample.target.crowd]] = True
        else:
            labels = np.unique(read_label_map(sample.label_map))
            row[labels[labels != IGNORE_INDEX]] = True
    return present


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
    return read_dataset(task, settings, "source_val", label_options(config.data), classes)


def source_of(settings: DatasetSettings, name: str) -> Source:
    """Return where a dataset of the config lies; `name` is its key below `data`, for messages."""
    return Source(name=name, images=settings.images, json=settings.json_, masks=settings.masks)


def label_options(data: DataSettings) -> LabelOptions:
    """Return how labels are read, with `data.classes` read from its file if it is one."""
    given = data.classes if isinstance(data.classes, ClassSettings) else ClassSettings(names=data.classes)
    names: Sequence[str] | Mapping[str, PixelValue] | None
    if isinstance(given.names, str):
        found = read_class_file(given.names)
        names = list(found) if all(isinstance(value, int) for value in found.values()) else found
    else:
        names = given.names
    return LabelOptions(
        classes=names if names is None or isinstance(names, Mapping) else tuple(names),
        changes=ClassChanges(given.rename, given.merge, given.drop),
        only=None if given.only is None else tuple(given.only),
        ignore_value=data.ignore_value,
        unlabelled=data.unlabelled,
        exif=data.exif,
        bits=data.bits,
    )


def measure_options(config: Config) -> MeasureOptions:
    """Return how predictions are measured."""
    return MeasureOptions(max_detections=config.evaluate.max_detections, boundary=config.evaluate.boundary)
