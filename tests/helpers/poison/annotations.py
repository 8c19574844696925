"""Annotations whose ids, references, boxes or flags are wrong: refused, or skipped and counted."""

from __future__ import annotations

from poison.dataset import HUGE, INF, NAN, NESTED, Case, Json, coco, document, put, read_boxes

FIRST = "annotations.0."
REFUSED: list[tuple[str, str, object, str]] = [
    ("an id of 70 bits", FIRST + "id", 2**70, "labels.json: annotation number 1 has 'id' 118059"),
    ("an id of 900 lists", FIRST + "id", NESTED, "labels.json: annotation number 1 has 'id'"),
    ("an id that is nan", FIRST + "id", NAN, "labels.json: annotation number 1 has 'id' nan"),
    ("an image id of 900 lists", FIRST + "image_id", NESTED, "labels.json, annotation 1: its image_id"),
    ("an image id of 400 digits", FIRST + "image_id", HUGE, "labels.json, annotation 1: its image_id 1000"),
    ("an image id that is true", FIRST + "image_id", True, "labels.json, annotation 1: its image_id True"),
    ("a category of 900 lists", FIRST + "category_id", NESTED, "labels.json, annotation 1: its category_id"),
    ("a category that is a name", FIRST + "category_id", "bolt", "labels.json, annotation 1: its category_id 'bolt'"),
    ("a box of 900 lists", FIRST + "bbox", NESTED, "labels.json, annotation 1: 'bbox' must be four numbers"),
    ("a box of 100,000 numbers", FIRST + "bbox", [1] * 100_000, "labels.json, annotation 1: 'bbox' must be four"),
    ("a box that is null", FIRST + "bbox", None, "labels.json, annotation 1: 'bbox' is missing"),
    ("a box with an object", FIRST + "bbox", [1, 2, 3, {}], "labels.json, annotation 1: 'bbox' must be four numbers"),
    ("an area of 900 lists", FIRST + "area", NESTED, "labels.json, annotation 1: 'area' must be a number >= 0"),
    ("an area that is infinite", FIRST + "area", INF, "labels.json, annotation 1: 'area' must be a number >= 0"),
    ("a crowd of 900 lists", FIRST + "iscrowd", NESTED, "labels.json, annotation 1: 'iscrowd' must be 0 or 1"),
    ("a crowd that is nan", FIRST + "iscrowd", NAN, "labels.json, annotation 1: 'iscrowd' must be 0 or 1"),
    ("all boxes nan", "annotations.*.bbox", [NAN] * 4, "6 boxes with nan or infinity, skipped: annotation 1, 2, 3"),
    ("all boxes outside", "annotations.*.bbox", [900, 900, 5, 5], "6 boxes wholly outside the image, skipped"),
    ("all boxes negative", "annotations.*.bbox", [9, 9, -5, -5], "6 boxes without a positive width and height"),
    ("all boxes fractions", "annotations.*.bbox", [0.1, 0.2, 0.3, 0.4], "labels.json: all 6 boxes lie between 0 and 1"),
    ("all crowd", "annotations.*.iscrowd", 1, "labels.json: all 6 annotations are crowd regions"),
    ("no annotation", "annotations", [], "labels.json: 'annotations' is empty"),
]  # fmt: skip
NOTED: list[tuple[str, str, object, str]] = [
    ("nan in a box", FIRST + "bbox", [NAN, 1, 2, 3], "labels.json: 1 box with nan or infinity, skipped: annotation 1"),
    ("400 digits in a box", FIRST + "bbox", [1, 1, HUGE, 3], "1 box with nan or infinity, skipped: annotation 1"),
    ("infinity in a box", FIRST + "bbox", [1, 1, 3, -INF], "1 box with nan or infinity, skipped: annotation 1"),
    ("a box outside", FIRST + "bbox", [40, 24, 5, 5], "1 box wholly outside the image, skipped: annotation 1"),
    ("a box of no width", FIRST + "bbox", [4, 4, 0, 5], "1 box without a positive width and height, skipped"),
    ("a box of 1e-30", FIRST + "bbox", [9, 9, 1e-30, 5], "1 box without a positive width and height, skipped"),
    ("a box of a billion", FIRST + "bbox", [1, 1, 10**9, 10**9], "1 box sticking out of the image, clipped"),
    ("a crowd", FIRST + "iscrowd", 1, "labels.json: 1 of 6 annotations are crowd regions"),
    ("no area", FIRST + "area", None, "labels.json: 1 annotation without area, taken from the box: annotation 1"),
    ("a segmentation of 900 lists", FIRST + "segmentation", NESTED, "1 segmentation cannot be read and are left out"),
    ("the same object twice", "annotations.2", {**document()["annotations"][0], "id": 3},
     "1 annotation repeats another one (same image, class and box)"),
]  # fmt: skip


def roots(content: Json) -> None:
    """Add 50,000 categories that group nothing, each the supercategory of the next."""
    content["categories"] += [
        {"id": 1000 + n, "name": f"c{n}", "supercategory": f"c{n - 1}"} for n in range(50_000)
    ]  # fmt: skip


def same_file(content: Json) -> None:
    """Give 1,000 images one file."""
    content["images"] += [{**content["images"][0], "id": 100 + n} for n in range(1000)]


CASES = [Case(name, coco(put(where, value)), read_boxes, words) for name, where, value, words in REFUSED]
CASES += [Case(name, coco(put(where, value)), read_boxes, words, noted=True) for name, where, value, words in NOTED]
CASES += [
    Case("50,000 categories", coco(roots, put("annotations.0.category_id", 5)), read_boxes, "its category_id 5 is not"),
    Case(
        "a file of 1,001 images", coco(same_file), read_boxes, "a.png with the ids 1, 100, 101, 102, 103 and 996 more"
    ),
]
