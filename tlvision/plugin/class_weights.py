"""Weights of classes in a loss, as plugins take them in `model.options.class_weights`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from tlvision.types import InputError, nearest

ClassWeight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassWeights = list[ClassWeight] | dict[str, ClassWeight]
"""A weight for each class in class order, or by class name, where a class that is not named has 1."""


def weights_in_order(
    given: Sequence[float] | Mapping[str, float] | None, classes: Sequence[str]
) -> tuple[float, ...] | None:
    """Return one weight a class, in the order of `classes`, or None if none are given.

    Raises InputError if a list is of another length, or a name is no class (with the nearest).

    >>> weights_in_order({"crack": 3.0}, ["road", "crack"])
    (1.0, 3.0)
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        for name in given:
            if name not in classes:
                raise InputError(f"model.options.class_weights: no class '{name}'.{nearest(name, classes)}")
        return tuple(float(given.get(name, 1.0)) for name in classes)
    if len(given) != len(classes):
        raise InputError(
            f"model.options.class_weights: expected {len(classes)} values, one for each of {', '.join(classes)}, got "
            f"{len(given)}; give as many, or weights by class name"
        )
    return tuple(float(weight) for weight in given)
