"""Records as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from tlvision.monitoring.record import UNCERTAINTY, Record
from tlvision.types import InputError

Numbers = npt.NDArray[np.float64]
COLOURS = "colours"
INPUT_NUMBERS = ("brightness", "contrast", "sharpness", "long side", "width / height")


@dataclass(frozen=True, slots=True)
class Columns:
    """Records of N images.

    times:       of each. taps: {name: (N, 2 * C)}, with `COLOURS` (N, 6) last.
    inputs:      {name: (N,)} for `INPUT_NUMBERS`.
    predictions: {name: (N,)}; nan where an image has none, such as the score of no object.
    classes:     (N, K) objects or shares. uncertainty: (N,), nan where it has none.
    """

    times: Sequence[datetime]
    taps: Mapping[str, Numbers]
    inputs: Mapping[str, Numbers]
    predictions: Mapping[str, Numbers]
    classes: Numbers
    uncertainty: Numbers

    def __len__(self) -> int:
        return len(self.times)

    def numbers(self) -> dict[str, Numbers]:
        """Return all numbers of images, those of the input first."""
        return {**self.inputs, **self.predictions}


def as_columns(records: Sequence[Record], classes: int) -> Columns:
    """Return records as columns. classes: number of classes of the bundle.

    Raises InputError if records do not belong together: other taps, or a class that the bundle does not have.
    """
    names = list(records[0].taps) if records else []
    sizes = {name: len(records[0].taps[name]) for name in names}
    columns = np.zeros((len(records), classes))
    for row, record in enumerate(records):
        if {name: len(vector) for name, vector in record.taps.items()} != sizes:
            raise InputError(f"monitor: the record of '{record.name}' has other taps than the first one. Remove it")
        for index, value in record.classes.items():
            if not 0 <= index < classes:
                raise InputError(f"monitor: the record of '{record.name}' has class {index} of {classes}. Remove it")
            columns[row, index] = value
    taps = {name: np.array([record.taps[name] for record in records], np.float64) for name in names}
    colours = np.array([record.colours for record in records], np.float64).reshape(-1, 6)
    known = dict.fromkeys(name for record in records for name in record.numbers if name != UNCERTAINTY)
    return Columns(
        times=[record.time for record in records],
        taps={**taps, COLOURS: colours},
        inputs=dict(zip(INPUT_NUMBERS, _inputs(records, colours), strict=True)),
        predictions={name: _column(records, name) for name in known},
        classes=columns,
        uncertainty=_column(records, UNCERTAINTY),
    )


def _inputs(records: Sequence[Record], colours: Numbers) -> list[Numbers]:
    sizes = np.array([record.size for record in records], np.float64).reshape(-1, 2)
    return [
        colours[:, :3].mean(axis=1),
        colours[:, 3:].mean(axis=1),
        np.array([record.sharpness for record in records], np.float64),
        sizes.max(axis=1, initial=0),
        sizes[:, 0] / np.maximum(sizes[:, 1], 1),
    ]


def _column(records: Sequence[Record], name: str) -> Numbers:
    return np.array([record.numbers.get(name, np.nan) for record in records], np.float64)
