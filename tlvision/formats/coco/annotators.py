"""Who made an annotation, if the json says it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tlvision.types import Json, counted, listing

KEYS = ("annotator", "annotator_id", "annotated_by", "created_by", "user", "user_id", "labeler", "worker_id")
"""Keys of an annotation that name who made it."""
_KEYS = frozenset(KEYS)


def annotator_of(row: Json) -> str | None:
    """Return who made an annotation, None if the json does not say it.

    >>> annotator_of({"id": 1, "annotator": "ann"}), annotator_of({"id": 2})
    ('ann', None)
    """
    return next((str(row[key]) for key in KEYS if isinstance(row.get(key), str | int)), None)


def several_annotators(rows: Sequence[Json]) -> str:
    """Return a sentence on images that several annotators have labelled; empty if there are none."""
    if all(map(_KEYS.isdisjoint, rows)):
        return ""
    people: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if not _KEYS.isdisjoint(row) and (name := annotator_of(row)) is not None:
            people[row["image_id"]].add(name)
    shared = [names for names in people.values() if len(names) > 1]
    if not shared:
        return ""
    return (
        f"{counted(len(shared), 'image')} labelled by several annotators ({listing(sorted(set().union(*shared)))}): an "
        "object that more than one of them labelled counts several times. Keep one annotator for each image, or merge "
        "their labels"
    )
