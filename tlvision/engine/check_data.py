"""Check, before anything is trained, that there is something to learn and something to measure.

What leaves nothing is an error; what leaves less than the files seem to hold is a note with counts and names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tlvision.config.schema import Config
from tlvision.data.dataset import place_whole, round_up
from tlvision.data.geometry import MIN_SIDE
from tlvision.engine.limits import objects_given
from tlvision.formats.coco import CocoData
from tlvision.formats.coco.duplicates import same_content
from tlvision.formats.label_maps import LabelMapData
from tlvision.plugin import Task
from tlvision.types import ImageFile, InputError, InputSpec, Sample, counted, listing

Dataset = CocoData | LabelMapData


def check_classes(train: Dataset, task: Task) -> list[str]:
    """Return a note on classes that have no object to learn; InputError if label maps hold fewer than two classes."""
    if task == "semantic" and len(train.classes) < 2:
        raise InputError(
            f"{train.path}: there is one class, '{train.classes.names[0]}', so every pixel would be predicted as it. "
            "Add the class of all other pixels, such as background"
        )
    if isinstance(train, LabelMapData):
        _check_pixels(train, "learn")
        return []
    notes = []
    labels = _labels(train.samples)
    counts = np.bincount(labels, minlength=len(train.classes))[: len(train.classes)]
    absent = [name for name, count in zip(train.classes.names, counts, strict=True) if not count]
    if task == "semantic":  # the background comes from pixels without an object
        absent = [name for name in absent if name != "background"]
    if absent:
        notes.append(f"{train.path.name}: no object of {counted(len(absent), 'class')}, not learned: {listing(absent)}")
    return notes


def _labels(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    """Return the class index of every object that is no crowd region."""
    found = [sample.target.labels[~sample.target.crowd] for sample in samples]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _check_pixels(data: LabelMapData, verb: str) -> None:
    """Raise InputError if fewer than two of several classes have a pixel."""
    present = [name for name, count in zip(data.classes.names, data.pixels, strict=True) if count]
    if len(present) >= 2:
        return
    absent = [name for name in data.classes.names if name not in present]
    what = f"only the class '{present[0]}' has pixels" if present else "no class has a pixel"
    remedy = "check the class list and the values in the label maps"
    if data.ignored:
        share = 100 * data.ignored / (data.ignored + int(data.pixels.sum()))
        remedy = (
            f"{share:.0f} % of the pixels have the value that means 'unknown' (data.ignore_value, usually 255). If "
            f"255 is a class, list the classes with their values: data.classes: {_mapping(data, absent)}"
        )
    raise InputError(f"{data.path}: {what}, so there is nothing to {verb} of {listing(absent)}; {remedy}")


def _mapping(data: LabelMapData, absent: Sequence[str]) -> str:
    values = dict(zip(data.classes.names, data.classes.source_ids, strict=True))
    if len(absent) == 1:
        values[absent[0]] = 255
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"


def check_sizes(data: Dataset, task: Task, input_spec: InputSpec, image_size: int) -> list[str]:
    """Return a note on objects that are too small to be learned; InputError if no other is left.

    input_spec, image_size: how images become network inputs, in pixels.
    """
    if task == "semantic":
        return []
    side = round_up(image_size, input_spec.multiple_of)
    small, total, smallest = 0, 0, np.inf
    for sample in data.samples:
        boxes = sample.target.boxes[~sample.target.crowd]
        _, matrix = place_whole((sample.height, sample.width), input_spec, side)
        sides = (boxes[:, 2:] - boxes[:, :2]) * np.array([matrix[0, 0], matrix[1, 1]])
        small += int((sides <= MIN_SIDE).any(axis=1).sum())
        total += len(boxes)
        smallest = min(smallest, float(sides.min(initial=np.inf)))
    if not small:
        return []
    what = (
        f"{data.path.name}: {small} of {counted(total, 'object')} are {MIN_SIDE:g} px or less high or wide at "
        f"image_size {image_size} (the smallest {smallest:.2g} px) and are not learned"
    )
    remedy = "raise data.image_size, or train on windows of the images (data.augment.crop)"
    if small == total:
        raise InputError(f"{what}, which leaves none; {remedy}")
    return [f"{what}; {remedy}"]


def check_measurable(val: Dataset, task: Task, config: Config, select: str) -> list[str]:
    """Read the ground truth as the evaluation will; InputError if it refuses the file or cannot measure `select`.

    select: the metric that chooses the best checkpoint; one of another dataset or of unlabelled images is not checked.

    Returns notes: classes that cannot be measured.
    """
    if isinstance(val, LabelMapData):
        _check_pixels(val, "measure")
        return []
    counts = np.bincount(_labels(val.samples), minlength=len(val.classes))[: len(val.classes)]
    absent = [name for name, count in zip(val.classes.names, counts, strict=True) if not count and name != "background"]
    in_file = {val.classes.names[index] for index in val.category_ids}
    absent = [name for name in absent if name in in_file]
    notes = []
    if absent:
        notes.append(f"{val.path.name}: no object of {counted(len(absent), 'class')}, not measured: {listing(absent)}")
    if task == "semantic":
        return notes
    from tlvision.evaluation import measurable, three_limits

    most = three_limits(config.evaluate.max_detections)
    found: set[str] = set()
    for kind in ("bbox", "segm") if task == "instance" else ("bbox",):
        found |= {f"{kind}/{name}" for name in measurable(val.path, iou_type=kind, max_detections=most)}
    domain, _, rest = select.partition("/")
    wanted = rest if domain in {"source", "target"} else select
    if wanted not in found and wanted.startswith(("bbox/", "segm/")):
        raise InputError(
            f"evaluate.select: '{select}' cannot be measured on {val.path.name}, which has no object of that kind; "
            f"choose one of {', '.join(sorted(found)) or 'none: there is no ground truth'}"
        )
    return notes


def check_limits(val: Dataset, task: Task, config: Config) -> list[str]:
    """Return notes on validation images with more objects than the evaluation counts, or than the model gives."""
    if task == "semantic":
        return []
    labels = [sample.target.labels[~sample.target.crowd] for sample in val.samples]
    of_a_class = [int(np.bincount(each).max(initial=0)) for each in labels]
    in_all = [len(each) for each in labels]
    counts, gives = config.evaluate.max_detections, objects_given(config, task)
    notes = []
    if (many := sum(number > counts for number in of_a_class)) > 0:
        notes.append(
            f"{val.path.name}: {counted(many, 'image')} with more than {counts} objects of a class (up to "
            f"{max(of_a_class)}), of which COCO counts {counts} detections; set evaluate.max_detections to "
            f"{max(of_a_class)}"
        )
    if (many := sum(number > gives for number in in_all)) > 0:
        notes.append(
            f"{val.path.name}: {counted(many, 'image')} with more than {gives} objects (up to {max(in_all)}), which "
            f"is what the model gives at most; set model.max_detections to {max(in_all)}"
        )
    return notes


def check_overlap(train: Dataset, val: Dataset) -> list[str]:
    """Return a note on validation images that are training images too, compared by their content."""
    pairs = same_content([sample.path for sample in val.samples], [sample.path for sample in train.samples])
    if not pairs:
        return []
    names = listing([f"{one.name} = {other.name}" if one.name != other.name else one.name for one, other in pairs], 3)
    return [
        f"{len(pairs)} of {counted(len(val.samples), 'validation image')} in the training set as well (equal files), "
        f"so the metrics do not tell how the model does on new images: {names}"
    ]


def check_images(train: Dataset) -> list[str]:
    """Return a note on training images that are stored more than once under different names."""
    paths = [sample.path for sample in train.samples]
    again = [(path, other) for path, other in same_content(paths, paths) if path != other]
    if not again:
        return []
    names = listing([f"{one.name} = {other.name}" for one, other in again], 3)
    return [f"{train.path.name}: {counted(len(again), 'image')} of the same content as another one: {names}"]


def check_unlabelled_overlap(unlabelled: Sequence[ImageFile], val: Dataset) -> list[str]:
    """Return a note on validation images among the unlabelled ones; their labels are not read, their pixels are."""
    pairs = same_content([sample.path for sample in val.samples], [image.path for image in unlabelled])
    if not pairs:
        return []
    return [
        f"data.target: {len(pairs)} of {counted(len(val.samples), 'validation image')} among the unlabelled training "
        f"images (equal files): {listing([one.name for one, _ in pairs], 3)}"
    ]
