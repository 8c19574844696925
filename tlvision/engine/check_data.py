"""Check for validation images in the training set, and for repeated images."""

from __future__ import annotations

from collections.abc import Sequence

from tlvision.formats.coco.duplicates import same_content
from tlvision.types import Dataset, ImageFile, counted, listing


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
