"""Divide a COCO json into parts: stratified by class, whole groups, near-duplicates on one side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.analysis.near_duplicates import clusters, image_hashes, near_pairs
from tlvision.data.subsets import divide
from tlvision.types import InputError, Json, counted, listing

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Division:
    """Parts of a dataset.

    parts:      name -> content of a COCO json; rows are those of the source, with their ids.
    duplicates: images that have a near-duplicate, which are on its side.
    table:      class -> part -> number of images with it.
    """

    parts: dict[str, Content]
    duplicates: int
    table: dict[str, dict[str, int]]


def split(
    content: Content,
    images: Path,
    shares: Mapping[str, float],
    *,
    group_by: str | None = None,
    seed: int = 0,
    near_duplicates: bool = True,
) -> Division:
    """Return the parts of a COCO json.

    content:  of the json. images: folder of its images.
    shares:   name of a part -> its share, above 0, together 1.
    group_by: a key of its `images`, or a regular expression with one group that is searched in the file name: images of
              a group are in one part.
    near_duplicates: whether images that show the same are in one part; takes one or two milliseconds an image.

    Raises InputError if there are fewer images or groups than parts, a group is missing, or an image cannot be read.
    """
    rows: list[Json] = content["images"]
    pairs = np.zeros((0, 2), np.int64)
    if near_duplicates:
        pairs = near_pairs(image_hashes([images / row["file_name"] for row in rows]))
    unit = np.array(_units(rows, group_by, pairs), np.int64)
    sizes = np.bincount(unit)
    if len(sizes) < len(shares):
        raise InputError(f"split: {counted(len(shares), 'part')} of {counted(len(sizes), 'group')} of images")
    present = _present(content)
    counts = np.zeros((len(sizes), present.shape[1]), np.int64)
    np.add.at(counts, unit, present)
    rooms = _rooms(list(shares.values()), len(rows))
    part_of = divide(counts, sizes, rooms, np.random.default_rng(seed))[unit]
    parts = {name: _part(content, part_of == number) for number, name in enumerate(shares)}
    return Division(parts, len(np.unique(pairs)), _table(content, present, part_of, list(shares)))


def fold_shares(folds: int) -> dict[str, float]:
    """Return the shares of folds.

    >>> fold_shares(2)
    {'fold0': 0.5, 'fold1': 0.5}
    """
    return {f"fold{number}": 1 / folds for number in range(folds)}


def without(content: Content, part: Content) -> Content:
    """Return the images that a part does not have: what a fold is trained on."""
    held = {row["id"] for row in part["images"]}
    return _part(content, np.array([row["id"] not in held for row in content["images"]]))


def _units(rows: Sequence[Json], group_by: str | None, pairs: npt.NDArray[np.int64]) -> list[int]:
    """Return the unit of each image: its group and its cluster of near-duplicates, joined where they overlap."""
    links = [pairs]
    if group_by is not None:
        first: dict[str, int] = {}
        names = [_group(row, group_by) for row in rows]
        links.append(np.array([(first.setdefault(name, place), place) for place, name in enumerate(names)]))
    roots = clusters(len(rows), np.concatenate(links))
    codes: dict[int, int] = {}
    return [codes.setdefault(root, len(codes)) for root in roots]


def _group(row: Json, group_by: str) -> str:
    if "(" in group_by:
        try:
            found = re.search(group_by, row["file_name"])
        except re.error as error:
            raise InputError(f"split: --group-by: '{group_by}' is no regular expression ({error})") from None
        value = found[1] if found and found.re.groups == 1 else None
    else:
        value = row.get(group_by)
    if value is None:
        raise InputError(
            f"split: --group-by: image '{row['file_name']}' has no '{group_by}'. Give a key of the json's images, or a "
            "regular expression with one group in parentheses"
        )
    return repr(value)


def _present(content: Content) -> npt.NDArray[np.bool_]:
    """Return (N, C) whether an image has an object of a category."""
    place = {row["id"]: number for number, row in enumerate(content["images"])}
    column = {row["id"]: number for number, row in enumerate(content["categories"])}
    present = np.zeros((len(place), len(column)), bool)
    for row in content["annotations"]:
        if row["image_id"] not in place or row["category_id"] not in column:
            raise InputError(f"split: annotation {row.get('id')} is of an unknown image or category")
        present[place[row["image_id"]], column[row["category_id"]]] = True
    return present


def _rooms(shares: Sequence[float], total: int) -> list[int]:
    """Return how many images each part gets; what rounding leaves goes to the first.

    >>> _rooms([0.8, 0.2], 11)
    [9, 2]
    """
    rest = [max(1, round(share * total)) for share in shares[1:]]
    return [total - sum(rest), *rest]


def _part(content: Content, kept: npt.NDArray[np.bool_]) -> Content:
    images = [row for row, keep in zip(content["images"], kept.tolist(), strict=True) if keep]
    ids = {row["id"] for row in images}
    rows = [row for row in content["annotations"] if row["image_id"] in ids]
    return {**content, "images": images, "annotations": rows}


def _table(
    content: Content, present: npt.NDArray[np.bool_], part_of: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, dict[str, int]]:
    return {
        row["name"]: {name: int(present[part_of == number, column].sum()) for number, name in enumerate(names)}
        for column, row in enumerate(content["categories"])
    }


def missing_classes(division: Division) -> str:
    """Return a sentence on classes that a part lacks, "" if there are none."""
    lacks = [
        f"{name} in {listing([part for part, count in parts.items() if not count])}"
        for name, parts in division.table.items()
        if any(parts.values()) and not all(parts.values())
    ]
    return f"classes without an image in a part: {'; '.join(lacks)}" if lacks else ""
