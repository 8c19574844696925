"""From the section `data` of a config to the two datasets of a run."""

from __future__ import annotations

from dataclasses import replace

from tlvision.config.schema import Config, DatasetSettings, DataSettings
from tlvision.formats.coco import CocoData, read_coco
from tlvision.formats.label_maps import LabelMapData, read_class_file, read_label_maps, read_panoptic
from tlvision.plugin import Task
from tlvision.types import ClassMap, InputError

Dataset = CocoData | LabelMapData
BACKGROUND = "background"


def read_data(config: Config, task: Task, classes: ClassMap | None = None) -> tuple[Dataset, Dataset]:
    """Read the training and the validation data; the classes of the first are the law for the second.

    classes: the classes of a run that is resumed; the data must still have them.
    """
    train = read_dataset(config.data, config.data.train, task, classes, "train")
    name = "val" if config.data.val is not None else "source_val"
    return train, read_dataset(with_bits(config.data, train), config.data.evaluated, task, train.classes, name)


def with_bits(data: DataSettings, train: Dataset) -> DataSettings:
    """Return the settings with the bit depth that was measured on the training images, if they have 16-bit values."""
    if train.bits is None or data.bits is not None:
        return data
    return data.model_copy(update={"bit_depth": train.bits})


def read_source_val(config: Config, task: Task, classes: ClassMap) -> Dataset | None:
    """Read `data.source_val` where it is evaluated beside `data.val`; None where it is absent, or all there is."""
    settings = config.data.source_val
    if settings is None or config.data.val is None:
        return None
    return read_dataset(config.data, settings, task, classes, "source_val")


def read_dataset(
    data: DataSettings,
    settings: DatasetSettings,
    task: Task,
    classes: ClassMap | None,
    name: str,
    *,
    require_objects: bool = True,
) -> Dataset:
    """Read one dataset; for a semantic task label maps, a panoptic json or a COCO json, else a COCO json.

    name:            "train", "val" and so on, for messages.
    require_objects: whether a COCO json without annotations is an error.

    Raises InputError where the keys do not fit the task.
    """
    if task == "semantic" and settings.masks is not None:
        if settings.json_ is not None:
            if data.classes is not None:
                raise InputError(
                    "data.classes: a panoptic json brings its own classes, all of which take part; leave it out"
                )
            return read_panoptic(
                settings.json_, settings.images, settings.masks, classes, exif=data.exif, bits=data.bits
            )
        return read_label_maps(
            settings.images,
            settings.masks,
            classes or class_file(data),
            ignore_value=data.ignore_value,
            exif=data.exif,
            bits=data.bits,
        )
    if settings.json_ is None:
        raise InputError(
            f"data.{name}.masks: label maps are for semantic models, this one is for the task '{task}'; give a COCO "
            f"json as data.{name}.json"
        )
    if isinstance(data.classes, dict):
        raise InputError(
            "data.classes: names with values are for label maps; a COCO json has ids of its own, so give a list "
            "of names"
        )
    if settings.masks is not None:
        raise InputError(f"data.{name}: the task '{task}' takes a json without masks; leave data.{name}.masks out")
    coco = read_coco(
        settings.json_,
        settings.images,
        classes,
        class_names=class_names(data),
        require_objects=require_objects,
        require_masks=task != "detect",
        exif=data.exif,
        bits=data.bits,
    )
    return with_background(coco) if task == "semantic" and data.unlabelled == "background" else coco


def class_names(data: DataSettings) -> tuple[str, ...] | None:
    """Return `data.classes` as names, read from its file where it is one."""
    if isinstance(data.classes, str):
        return read_class_file(data.classes).names
    return None if data.classes is None else tuple(data.classes)


def class_file(data: DataSettings) -> ClassMap:
    """Return the classes that label maps need; without values given, these are their places in the list."""
    if isinstance(data.classes, dict):
        return ClassMap(tuple(data.classes), tuple(data.classes.values()))
    names = class_names(data)
    if names is None:
        raise InputError(
            "data.classes: label maps hold numbers only; give a text file with one class name a line, the number of "
            "the line (from 0) being the value, or a list of names in that order"
        )
    return ClassMap(names, tuple(range(len(names))))


def with_background(data: CocoData) -> CocoData:
    """Return the data with a class for what no object covers, behind the others, where no class has that name."""
    if BACKGROUND in data.classes.names:
        # No json need have it: that a file lacks it is not worth a note.
        lacks = f"{data.path.name}: it has no class {BACKGROUND}"
        return replace(data, skipped=tuple(note for note in data.skipped if note != lacks))
    classes = ClassMap((*data.classes.names, BACKGROUND), (*data.classes.source_ids, max(data.classes.source_ids) + 1))
    return replace(data, classes=classes)


def background_of(data: Dataset, settings: DataSettings) -> int | None:
    """Return the index of the class of pixels that no object covers; None where those are not known."""
    if isinstance(data, LabelMapData) or settings.unlabelled == "ignore":
        return None
    return data.classes.index(BACKGROUND)
