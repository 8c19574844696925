"""Check that there are objects to learn and to measure.

Data without any is an InputError. Data with less than the files seem to hold is a note with counts and names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tlvision.data.dataset import place_whole, round_up
from tlvision.data.geometry import MIN_SIDE
from tlvision.evaluation import measurable, three_limits
from tlvision.formats.coco import CocoData, write_used
from tlvision.types import Dataset, InputError, InputSpec, counted, listing


def check_train(train: Dataset, *, but: Sequence[str] = ()) -> list[str]:
    """Return a note on classes that have no object to learn, except those named `but`."""
    absent = [name for name in absent_classes(train) if name not in but]
    if not absent:
        return []
    return [f"{train.path.name}: no object of {counted(len(absent), 'class')}, not learned: {listing(absent)}"]


def absent_classes(data: Dataset) -> list[str]:
    """Return the classes without an object that is no crowd region."""
    found = [sample.target.labels[~sample.target.crowd] for sample in data.samples]
    labels: npt.NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *found])
    counts = np.bincount(labels, minlength=len(data.classes))[: len(data.classes)]
    return [name for name, count in zip(data.classes.names, counts, strict=True) if not count]


def check_sizes(data: Dataset, input_spec: InputSpec, image_size: int) -> list[str]:
    """Return a note on objects that are too small to be learned; InputError if no other is left.

    input_spec, image_size: how images become network inputs, in pixels.
    """
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
    remedy = "raise data.image_size, or cut large images into tiles (data.tiles)"
    if small == total:
        raise InputError(f"{what}, which leaves none; {remedy}")
    return [f"{what}; {remedy}"]


def unmeasured_classes(val: CocoData) -> list[str]:
    """Return a note on classes of the file without an object; pixels of the background need none."""
    in_file = {val.classes.names[index] for index in val.category_ids}
    absent = [name for name in absent_classes(val) if name in in_file and name != "background"]
    if not absent:
        return []
    return [f"{val.path.name}: no object of {counted(len(absent), 'class')}, not measured: {listing(absent)}"]


def check_measurable(
    val: CocoData, kinds: Sequence[Literal["bbox", "segm"]], max_detections: int, select: str
) -> list[str]:
    """Return notes as `unmeasured_classes`; InputError if the evaluation refuses the file or cannot measure `select`.

    kinds: IoU types that are measured.
    """
    notes = unmeasured_classes(val)
    limits = three_limits(max_detections)
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = val.path
        if val.kept is not None or val.changes:
            path = Path(folder) / path.name
            write_used(val, path)
        for kind in kinds:
            found |= {f"{kind}/{name}" for name in measurable(path, iou_type=kind, max_detections=limits)}
    domain, _, rest = select.partition("/")
    wanted = rest if domain in {"source", "target"} else select
    if wanted not in found and wanted.startswith(("bbox/", "segm/")):
        raise InputError(
            f"evaluate.select: '{select}' cannot be measured on {val.path.name}, which has no object of that kind; "
            f"choose one of {', '.join(sorted(found)) or 'none: there is no ground truth'}"
        )
    return notes


def check_limits(val: Dataset, counts: int, gives: int) -> list[str]:
    """Return notes on images with more objects than the evaluation counts a class, or than the model gives."""
    labels = [sample.target.labels[~sample.target.crowd] for sample in val.samples]
    of_a_class = [int(np.bincount(each).max(initial=0)) for each in labels]
    in_all = [len(each) for each in labels]
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
