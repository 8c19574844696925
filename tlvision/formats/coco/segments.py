"""Read the segmentations of many annotations, with all faulty ones counted at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlvision.formats.coco.plain import column
from tlvision.formats.coco.polygons import plain_polygons, surely_drawn
from tlvision.formats.coco.rle import is_empty, parse_segmentation
from tlvision.types import InputError, Json, Polygons, Rle, counted, listing

_AT_A_TIME = 50_000
"""Annotations; bounds the memory of their coordinates."""
Segments = dict[int, Polygons | Rle]


def read_segments(
    name: str, rows: Sequence[Json], sizes: Mapping[int, tuple[int, int]], notes: list[str], *, strict: bool
) -> Segments:
    """Return the segmentations that can be read, by the id of their annotation.

    name:   of the json, for messages.
    rows:   annotations with a usable box.
    sizes:  width and height of each image id, in pixels.
    notes:  gets a sentence for each kind of fault, with counts.
    strict: whether masks are trained. Faulty masks are then an error; else they are left out, and the box stays.

    A polygon with fewer than three points is dropped with a note if the annotation has valid ones. Raises InputError
    that counts all faulty masks and shows the first.
    """
    segments: Segments = {}
    faulty: list[tuple[int, InputError]] = []
    trimmed: list[int] = []
    values = column(rows, "segmentation")
    if values.count(None) == len(values):  # boxes alone, in a tenth of the time
        return segments
    plain = [
        found
        for first in range(0, len(rows), _AT_A_TIME)
        for found in plain_polygons(values[first : first + _AT_A_TIME])
    ]
    for row, given, polygons in zip(rows, values, plain, strict=True):
        if polygons is not None:
            segments[row["id"]] = polygons
            continue
        if given is None or given == []:
            continue
        value, short = without_short_polygons(given)
        if short:
            trimmed.append(row["id"])
        width, height = sizes[row["image_id"]]
        try:
            found = parse_segmentation(value, height, width, f"{name}, annotation {row['id']}")
            if found is not None:
                segments[row["id"]] = found
        except InputError as error:
            faulty.append((row["id"], error))
    if trimmed:
        notes.append(
            f"{name}: {counted(len(trimmed), 'annotation')} with a polygon of fewer than three points next to valid "
            f"ones; that polygon is left out: annotation {listing(trimmed)}"
        )
    if faulty and strict:
        first = str(faulty[0][1])
        if len(faulty) == 1:
            raise faulty[0][1]
        raise InputError(f"{name}: {len(faulty)} segmentations cannot be read; the first: {first}")
    if faulty:
        notes.append(
            f"{name}: {counted(len(faulty), 'segmentation')} cannot be read and are left out, which boxes do not need: "
            f"annotation {listing([number for number, _ in faulty])}"
        )
    return segments


def empty_masks(
    name: str, rows: Sequence[Json], segments: Segments, sizes: Mapping[int, tuple[int, int]], notes: list[str]
) -> set[int]:
    """Return the ids of annotations whose mask has no pixel in the image; `notes` gets a sentence with their number.

    Arguments as for `read_segments`, which returned `segments`.
    """
    found = []
    for first in range(0, len(rows), _AT_A_TIME):
        part = rows[first : first + _AT_A_TIME]
        drawn = _drawn(part, segments, sizes)
        for row in part:
            segment, (width, height) = segments.get(row["id"]), sizes[row["image_id"]]
            if row["id"] not in drawn and segment is not None and is_empty(segment, height, width):
                found.append(row["id"])
    if found:
        notes.append(
            f"{name}: {counted(len(found), 'mask')} without a pixel in the image, skipped: annotation {listing(found)}"
        )
    return set(found)


def _drawn(rows: Sequence[Json], segments: Segments, sizes: Mapping[int, tuple[int, int]]) -> set[int]:
    """Return the ids of annotations of which a polygon has a pixel for sure."""
    found = [(row["id"], sizes[row["image_id"]], segments.get(row["id"])) for row in rows]
    pieces = [(key, size, piece) for key, size, segment in found if isinstance(segment, tuple) for piece in segment]
    if not pieces:
        return set()
    flags = surely_drawn([piece for *_, piece in pieces], np.array([size for _, size, _ in pieces], np.int64))
    return {key for (key, *_), flag in zip(pieces, flags.tolist(), strict=True) if flag}


def without_short_polygons(value: Any) -> tuple[Any, bool]:
    """Return a segmentation without polygons of fewer than three points where others are whole, and whether it had any.

    >>> without_short_polygons([[1, 1, 2, 2], [1, 1, 9, 1, 9, 9]])
    ([[1, 1, 9, 1, 9, 9]], True)
    """
    if not isinstance(value, list) or len(value) < 2:
        return value, False
    whole = [part for part in value if not (isinstance(part, list) and len(part) < 6)]
    return (whole, True) if whole and len(whole) < len(value) else (value, False)
