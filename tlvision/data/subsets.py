"""Choose a part of a dataset: few images, some of each class, or one of several folds.

Source: the iterative stratification of Sechidis et al., 2011. Differences: units are groups of images, and the number
of images of a part is fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from tlvision.data.settings import SubsetSettings
from tlvision.types import InputError, counted

Counts = npt.NDArray[np.int64]


def choose(
    settings: SubsetSettings, present: npt.NDArray[np.bool_], groups: Sequence[Hashable] | None = None, *, held: bool
) -> list[int]:
    """Return the positions of the images of a part, ascending.

    present: (N, C) whether an image has an object, or a pixel, of a class.
    groups:  of the N images; images of a group stay together. None: every image is a group.
    held:    of `fold: [i, k]`, whether to return part i, to evaluate on, or the images of the others, to train on.

    Raises InputError if there are fewer images or groups than the part needs.

    >>> folds = [SubsetSettings(fold=[part, 2]) for part in (0, 1)]
    >>> parts = [choose(fold, np.eye(2, dtype=bool)[[0, 0, 1, 1]], held=True) for fold in folds]
    >>> sorted(parts[0] + parts[1]), [sum(position < 2 for position in part) for part in parts]
    ([0, 1, 2, 3], [1, 1])
    """
    total = len(present)
    rng = np.random.default_rng(settings.seed)
    if settings.per_class is not None:
        return few_of_each(present, settings.per_class, rng)
    codes: dict[Hashable, int] = {}
    unit = np.array([codes.setdefault(name, len(codes)) for name in groups or range(total)], np.int64)  # of each image
    sizes = np.bincount(unit)
    classes = present if settings.stratify else present[:, :0]
    counts = np.zeros((len(sizes), classes.shape[1]), np.int64)
    np.add.at(counts, unit, classes)
    if settings.fold is not None:
        number, folds = settings.fold
        if len(sizes) < folds:
            what = "images" if groups is None else "groups"
            raise InputError(f"fold: {folds} folds need as many {what}, there are {len(sizes)}")
        rooms = [total // folds + (part < total % folds) for part in range(folds)]
        part = divide(counts, sizes, rooms, rng)[unit]
        return np.flatnonzero((part == number) == held).tolist()
    wanted = settings.count if settings.count is not None else max(1, round((settings.fraction or 0) * total))
    if wanted > total:
        raise InputError(f"count: {counted(wanted, 'image')} of {total} cannot be chosen")
    return np.flatnonzero(divide(counts, sizes, [wanted, total - wanted], rng)[unit] == 0).tolist()


def divide(counts: Counts, sizes: Counts, rooms: Sequence[int], rng: np.random.Generator) -> Counts:
    """Return (U,) the part of each unit, so that every part has its share of the units of each class.

    counts: (U, C) images of each class in a unit. sizes: (U,) images of a unit. rooms: images that each part gets, with
            units of one image exactly, otherwise nearly.
    """
    room = np.array(rooms, np.float64)
    wanted = np.outer(room / room.sum(), counts.sum(axis=0))  # (parts, C)
    part = np.full(len(sizes), -1)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first, while there is room for them
    left = counts.sum(axis=0)
    while (part < 0).any():
        open_units = order[part[order] < 0]
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin()) if left.any() else None
        chosen = open_units if rarest is None else open_units[counts[open_units, rarest] > 0]
        for unit in chosen.tolist():
            target = _part_for(wanted[:, rarest] if rarest is not None else room, room, sizes[unit], rng)
            part[unit] = target
            wanted[target] -= counts[unit]
            room[target] -= sizes[unit]
            left = left - counts[unit]
    return part


def _part_for(
    wanted: npt.NDArray[np.float64], room: npt.NDArray[np.float64], size: int, rng: np.random.Generator
) -> int:
    """Return the part that wants the class most; of equal ones the one with most room, then any."""
    allowed = room >= min(size, room.max())
    keys = np.where(allowed, wanted, -np.inf)
    best = np.flatnonzero(keys >= keys.max() - 1e-9)
    best = best[room[best] >= room[best].max() - 1e-9]
    return int(rng.choice(best))


def few_of_each(present: npt.NDArray[np.bool_], images: int, rng: np.random.Generator) -> list[int]:
    """Return images so that each class is in at least `images` of them, or in all that have it; rare classes first."""
    order = rng.permutation(len(present))
    chosen = np.zeros(len(present), bool)
    for label in np.argsort(present.sum(axis=0), kind="stable").tolist():
        missing = images - int(present[chosen, label].sum())
        free = [position for position in order.tolist() if present[position, label] and not chosen[position]]
        chosen[free[: max(0, missing)]] = True
    if not chosen.any():
        raise InputError("per_class: no image has an object of any class")
    return np.flatnonzero(chosen).tolist()
