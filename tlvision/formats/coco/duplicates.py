"""Find images and annotations that are in a dataset more than once, and images that two datasets share."""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.files.inputs import file_hash
from tlvision.formats.coco.plain import column
from tlvision.formats.coco.rules import as_floats
from tlvision.types import InputError, Json, counted, listing

_THREADS = 8


def check_one_row_a_file(name: str, images: Mapping[int, Json]) -> None:
    """Raise InputError if several rows of `images` name one file, which counts its objects as missed in each other.

    name: of the json. images: rows by id, with "file_name".
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for image_id, row in images.items():
        rows[os.path.normpath(row["file_name"])].append(image_id)
    double = {file: ids for file, ids in rows.items() if len(ids) > 1}
    if double:
        file, ids = next(iter(double.items()))
        raise InputError(
            f"{name}: {len(double)} image files have more than one row in 'images', for example {file} with the ids "
            f"{listing(ids)}. Give each file one row, and its annotations that row's id as 'image_id'"
        )


def repeated_annotations(rows: Sequence[Json]) -> list[int]:
    """Return the ids of annotations that repeat an earlier one: same image, class, box and iscrowd."""
    seen: set[tuple[Any, ...]] = set()
    again = []
    for row in _alike(rows):
        key = (row["image_id"], row["category_id"], *row["bbox"], bool(row.get("iscrowd")))
        if key in seen:
            again.append(row["id"])
        seen.add(key)
    return again


def _alike(rows: Sequence[Json]) -> list[Json]:
    """Return the rows that may equal another one: those whose hash occurs more than once."""
    if not rows:
        return []
    numbers = np.concatenate(
        [
            as_floats(column(rows, "bbox")),
            *(np.array(column(rows, key), np.float64)[:, None] for key in ("image_id", "category_id")),
        ],
        axis=1,
    )
    bits = (numbers + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    hashes = (bits * _ODD).sum(axis=1, dtype=np.uint64)
    hashes ^= hashes >> np.uint64(29)
    _, first, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return [rows[number] for number in np.flatnonzero(counts[first] > 1).tolist()]


_ODD = np.array(
    [
        0x9E3779B97F4A7C15,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x27D4EB2F165667C5,
        0x85EBCA77C2B2AE63,
        0xFF51AFD7ED558CCD,
    ],
    np.uint64,
)
"""Factors of the columns; sums and products wrap around."""


def repeated_sentence(count: int) -> str:
    """Return a sentence on annotations that repeat another one.

    >>> repeated_sentence(1)
    '1 annotation repeats another one (same image, class and box) and counts as missed if the object is found once'
    """
    verbs = ("repeats", "counts") if count == 1 else ("repeat", "count")
    return (
        f"{counted(count, 'annotation')} {verbs[0]} another one (same image, class and box) and {verbs[1]} as missed "
        "if the object is found once"
    )


def same_content(paths: Iterable[Path], others: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return pairs of files, one of `paths` and one of `others`, that have the same bytes; in the order of `paths`.

    Only files of one size are read, so that the comparison of two sets of photographs reads next to nothing.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in others:
        by_size[path.stat().st_size].append(path)
    candidates = [(path, path.stat().st_size) for path in paths]
    alike = [path for path, size in candidates if size in by_size]
    common = {size for _, size in candidates if size in by_size}
    wanted = {*alike, *(other for size in common for other in by_size[size])}
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(wanted, pool.map(file_hash, wanted), strict=True))
    first: dict[str, Path] = {}
    for group in by_size.values():
        for path in group:
            if path in digests:
                first.setdefault(digests[path], path)
    return [(path, first[digests[path]]) for path in alike if digests[path] in first]
