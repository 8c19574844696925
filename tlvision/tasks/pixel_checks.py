"""Check that label maps hold classes to learn and to measure."""

from __future__ import annotations

from collections.abc import Sequence

from tlvision.formats.label_maps import LabelMapData
from tlvision.types import Dataset, InputError, listing


def check_two_classes(train: Dataset) -> None:
    """Raise InputError if there is one class only."""
    if len(train.classes) < 2:
        raise InputError(
            f"{train.path}: there is one class, '{train.classes.names[0]}', so every pixel would be predicted as it. "
            "Add the class of all other pixels, such as background"
        )


def check_pixels(data: LabelMapData, verb: str) -> None:
    """Raise InputError if fewer than two of several classes have a pixel.

    verb: "learn" or "measure", for the message.
    """
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
