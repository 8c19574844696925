"""Score thresholds of a model: one for every class, and others for some classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tlvision.types.errors import InputError


@dataclass(frozen=True, slots=True)
class ClassThresholds:
    """Score from which a detection counts, for each class by name.

    default:   0..1, of a class that `per_class` does not name.
    per_class: name -> 0..1.

    Raises InputError for a threshold that is not a number from 0 to 1.

    >>> ClassThresholds(0.25, {"cat": 0.5}).of(["cat", "dog"]).tolist()
    [0.5, 0.25]
    """

    default: float
    per_class: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in [("default", self.default), *self.per_class.items()]:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 <= value <= 1):
                raise InputError(f"thresholds: expected a number from 0 to 1 for '{name}', got {value!r}")

    def of(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return (C,) the threshold of each class."""
        return np.array([self.per_class.get(name, self.default) for name in names], np.float64)
