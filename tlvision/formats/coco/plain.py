"""Check all annotations of a json at once, column by column, which takes a tenth of the time of one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from tlvision.formats.coco.rules import LIMIT
from tlvision.types import Json

_NUMBERS = {int, float}
_FLAGS = {int, bool, type(None)}


def all_plain(rows: Sequence[Json], images: Mapping[int, Json], categories: Mapping[int, str]) -> bool:
    """Return whether every annotation has a known image and category, four numbers as box, and a valid area and crowd.

    If not, `tlvision.formats.coco.document` looks for the first that has not.
    """
    for key, known in (("image_id", images), ("category_id", categories)):
        ids = column(rows, key)
        if not _types(ids) <= {int} or not known.keys() >= set(ids):
            return False
    crowd = column(rows, "iscrowd")
    if not _types(crowd) <= _FLAGS or not set(crowd) <= {0, 1, None}:
        return False
    boxes = column(rows, "bbox")
    if not _types(boxes) <= {list} or not {*map(len, boxes)} <= {4}:
        return False
    if not {*map(type, chain.from_iterable(boxes))} <= _NUMBERS:
        return False
    areas = [area for area in column(rows, "area") if area is not None]
    return _types(areas) <= _NUMBERS and _in_range(areas)


def column(rows: Sequence[Json], key: str) -> list[Any]:
    """Return the value of a key in each row, None where a row lacks it."""
    try:
        return list(map(itemgetter(key), rows))
    except KeyError:
        return [row.get(key) for row in rows]


def _types(values: Sequence[Any]) -> set[type]:
    return {*map(type, values)}


def _in_range(areas: Sequence[float]) -> bool:
    try:
        values = np.array(areas, np.float64)
    except OverflowError:
        return False
    return bool(((values >= 0) & (values < LIMIT)).all())
