"""Find what each value in a label map means, from `data.classes`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tlvision.tasks.base import LabelOptions, PixelValue
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, nearest


@dataclass(frozen=True, slots=True)
class LabelValues:
    """The classes of label maps, and how they are stored.

    classes:  their source ids are values; of a colour red + 256 green + 65536 blue, of a merged class the first.
    values:   value -> class index, or IGNORE_INDEX if nothing is known or the class is left out.
    coloured: whether the values are colours.
    """

    classes: ClassMap
    values: dict[int, int]
    coloured: bool


def label_values(options: LabelOptions, classes: ClassMap | None = None) -> LabelValues:
    """Return what each value means; without values given, the place in the list of names is the value of a class.

    classes: those of a run. If the options have no names, because the run was trained on a json, their ids are the
             values.

    Raises InputError without names, with values and colours side by side, or if changes name a class that is not given.
    """
    if options.classes is None and classes is not None:
        values = {packed(options.ignore_value): IGNORE_INDEX} | {id_: n for n, id_ in enumerate(classes.source_ids)}
        return LabelValues(classes, values, not isinstance(options.ignore_value, int))
    given = _named_values(options)
    kinds = {isinstance(value, int) for value in given.values()}
    if len(kinds) > 1:
        raise InputError("data.classes: some classes have values and others colours; give all of them colours")
    coloured = kinds == {False}
    named = {name: packed(value) for name, value in given.items()}
    groups = options.changes.applied(tuple(named), "data.classes.names", strict=True)
    for name in options.only or ():
        if name not in groups:
            raise InputError(f"data.classes.only: no class '{name}'.{nearest(name, groups)}")
    names = options.only or tuple(groups)
    values = dict.fromkeys(named.values(), IGNORE_INDEX)
    if coloured is not isinstance(options.ignore_value, int):
        values = {packed(options.ignore_value): IGNORE_INDEX} | values
    for index, name in enumerate(names):
        values |= {named[old]: index for old in groups[name]}
    return LabelValues(ClassMap(names, tuple(named[groups[name][0]] for name in names)), values, coloured)


def packed(value: PixelValue) -> int:
    """Return a value as it is, and a colour as one number.

    >>> packed(7), packed((128, 64, 1))
    (7, 82048)
    """
    return value if isinstance(value, int) else value[0] + 256 * value[1] + 65536 * value[2]


def _named_values(options: LabelOptions) -> Mapping[str, PixelValue]:
    if options.classes is None:
        raise InputError(
            "data.classes: label maps hold numbers only; give a text file with one class name a line, the number of "
            "the line (from 0) being the value, or a list of names in that order"
            + (", as data.classes.names" if options.changes or options.only else "")
        )
    if isinstance(options.classes, Mapping):
        return options.classes
    return {name: value for value, name in enumerate(options.classes)}
