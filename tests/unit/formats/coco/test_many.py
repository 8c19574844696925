"""What is read of many annotations at once equals what is read one by one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlvision.files.inputs import check_inside
from tlvision.formats.coco.duplicates import repeated_annotations
from tlvision.formats.coco.plain import all_plain
from tlvision.formats.coco.polygons import plain_polygons, surely_drawn
from tlvision.formats.coco.rle import is_empty, parse_segmentation
from tlvision.formats.coco.rules import area_problem, crowd_problem
from tlvision.types import InputError

VALUES: list[Any] = [
    [[1, 1, 9, 1, 9, 9]],
    [[1, 1, 9, 1, 9, 9], [2.5, 2, 3, 3, 4, 9, 1, 1]],
    [[1, 1, 9, 1, 9, float("nan")]],
    [[1, 1, 9, 1, 9, 1e20]],
    [[0, 0, 9, 9] * 100_000],
    [[1, 1, 9, 9]],
    [[1, 1, 9, 1, 9, "9"]],
    [[1, 1, 9, 1, 9, True]],
    [],
    None,
    "x",
    [[1, 1, 9, 1, 9, 10**400]],
    {"size": [20, 20], "counts": [400]},
]


def one_by_one(value: Any) -> Any:
    try:
        return parse_segmentation(value, 20, 20, "x")
    except InputError:
        return None


@pytest.mark.parametrize("seed", range(6))
def test_polygons_at_once_are_those_one_by_one(seed: int) -> None:
    draw = random.Random(seed)
    values = [draw.choice(VALUES[:6] if seed % 2 else VALUES) for _ in range(30)]
    found = plain_polygons(values)
    assert len(found) == len(values)
    for value, polygons in zip(values, found, strict=True):
        if polygons is None:
            continue  # looked at one by one
        expected = one_by_one(value)
        assert len(polygons) == len(expected)
        for one, other in zip(polygons, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == np.float32
    if seed % 2:
        assert [polygons is not None for polygons in found] == [value in (VALUES[0], VALUES[1]) for value in values]


def test_a_polygon_that_is_surely_drawn_has_pixels() -> None:
    rng = np.random.default_rng(0)
    polygons = [rng.uniform(-4, 24, (int(rng.integers(3, 6)), 2)).astype(np.float32) for _ in range(2000)]
    flags = surely_drawn(polygons, np.full((2000, 2), 20))
    assert 0 < flags.sum() < 2000
    for polygon, flag in zip(polygons, flags.tolist(), strict=True):
        assert not (flag and is_empty((polygon,), 20, 20))


@pytest.mark.parametrize("seed", range(5))
def test_repeated_annotations_are_those_of_a_slow_search(seed: int) -> None:
    draw = random.Random(seed)
    boxes = [[draw.choice([0, -0.0, 1, 1.0, 2, 2**53, 2**53 + 1]) for _ in range(4)] for _ in range(6)]
    rows = [
        {"id": n, "image_id": draw.choice([1, 2**62, 2**62 + 1]), "category_id": draw.choice([3, 4])}
        | {"bbox": draw.choice(boxes), "iscrowd": draw.choice([0, 1, None])}
        for n in range(200)
    ]
    keys = [(r["image_id"], r["category_id"], *r["bbox"], bool(r["iscrowd"])) for r in rows]
    assert repeated_annotations(rows) == [n for n in range(200) if keys[n] in keys[:n]]
    assert repeated_annotations([]) == []


FIELDS: dict[str, list[Any]] = {
    "image_id": [1, 9, None, True, "1", 1.0],
    "category_id": [3, 9, None, False, [3]],
    "bbox": [[1, 2, 3, 4], [1, 2, 3], None, [1, 2, 3, True], [1, 2, 3, 4.5], [1, 2, 3, [4]]],
    "area": [5, None, -1, float("nan"), True, 10**400, 1e16, "5", [5]],
    "iscrowd": [0, 1, None, True, 2, 0.0, "0", [0]],
}
assert FIELDS


@pytest.mark.parametrize("key", FIELDS)
def test_columns_are_plain_exactly_where_each_row_is(key: str) -> None:
    images: dict[int, dict[str, Any]] = {1: {}}
    categories = {3: "a"}
    for value in FIELDS[key]:
        row = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 0, key: value}
        box = row["bbox"]
        expected = (
            (type(row["image_id"]), row["image_id"]) == (int, 1)
            and (type(row["category_id"]), row["category_id"]) == (int, 3)
            and isinstance(box, list)
            and len(box) == 4
            and all(type(number) in (int, float) for number in box)
            and not area_problem(row["area"])
            and not crowd_problem(row["iscrowd"])
        )
        assert all_plain([{**row, key: FIELDS[key][0]}, row], images, categories) == expected, value
    row = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
    assert all_plain([row], images, categories), "area and iscrowd may be missing"


def test_a_folder_that_is_a_link_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "b.png").symlink_to("a.png")
    check_inside(tmp_path / "link", [tmp_path / "link" / name for name in ("a.png", "b.png")], "x")
