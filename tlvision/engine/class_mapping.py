"""Map classes of the pretrained weights to classes of the dataset: `model.rename`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tlvision.types import ClassMap, InputError, nearest

Names = Mapping[str, str | Sequence[str]]
"""`{our class: the weights' class, or several that are all ours}`"""


def trained_classes(classes: ClassMap, names: Names) -> ClassMap:
    """Return our classes under the names of those whose rows of the head training starts from.

    Where several of the weights' classes are one of ours, that is the first. Raises InputError where a class is not
    ours, or one of the weights' classes would be two of ours.

    >>> target_classes = ClassMap.from_names(["vehicle", "person"])
    >>> trained_classes(target_classes, {"vehicle": ["car", "truck"]}).names
    ('car', 'person')
    """
    return ClassMap(tuple(each[0] for each in _source_classes(classes, names)), classes.source_ids)


def pretrained_classes(classes: ClassMap, names: Names) -> tuple[ClassMap, tuple[int, ...]]:
    """Return all of the weights' classes that are ours, and the index of ours for each of them.

    Raises InputError as `trained_classes` does.

    >>> target_classes = ClassMap.from_names(["vehicle", "person"])
    >>> source_classes, index = pretrained_classes(target_classes, {"vehicle": ["car", "truck"]})
    >>> source_classes.names, index
    (('car', 'truck', 'person'), (0, 0, 1))
    """
    found = _source_classes(classes, names)
    flat = [name for each in found for name in each]
    return ClassMap.from_names(flat), tuple(index for index, each in enumerate(found) for _ in each)


def _source_classes(classes: ClassMap, names: Names) -> list[tuple[str, ...]]:
    """Return what each of our classes is called by the weights."""
    for name in names:
        if name not in classes.names:
            raise InputError(f"model.rename: the data have no class '{name}'.{nearest(name, classes.names)}")
    found = [_tuple(names.get(name, name)) for name in classes.names]
    flat = [name for each in found for name in each]
    twice = [name for name in flat if flat.count(name) > 1]
    if twice:
        raise InputError(f"model.rename: '{twice[0]}' of the weights would be two classes of ours; it can be one")
    return found


def _tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
