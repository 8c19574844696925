"""Segmentations: polygons and run lengths that cannot be drawn, or that draw nothing."""

from __future__ import annotations

from pathlib import Path

from poison.dataset import HUGE, INF, NAN, NESTED, Build, Case, coco, evaluate, put, read_boxes, read_masks

WHOLE = {"size": [24, 40]}
"""A run-length mask without its counts."""
FAULTS: list[tuple[str, object, str]] = [
    ("nan in a polygon", [[2, 2, NAN, 2, 8, 8]], "a polygon has a coordinate that is not finite"),
    ("infinity in a polygon", [[2, 2, INF, 2, 8, 8]], "a polygon has a coordinate that is not finite"),
    ("400 digits in a polygon", [[2, 2, HUGE, 2, 8, 8]], "a polygon has a coordinate that is not finite"),
    ("1e308 in a polygon", [[2, 2, 1e308, 2, 8, 8]], "a polygon has a coordinate that is not finite"),
    ("a polygon of 2 x 10^9 pixels", [[2, 2, 1e9, 2, 8, 8]], "the outline of a polygon is 1,999,999,996 pixels long"),
    ("a polygon of -2 x 10^9 pixels", [[2, 2, -1e9, -1e9, 8, 8]], "the outline of a polygon is 2,000,000,016 pixels"),
    ("a polygon of 60,000 zigzags", [[0, 0, 40, 24] * 60_000], "the outline of a polygon is 4,800,000 pixels long"),
    ("texts in a polygon", [["2", "2", "8", "2", "8", "8"]], "a polygon must be a flat list x, y, x, y"),
    ("pairs in a polygon", [[[2, 2], [8, 2], [8, 8]]], "a polygon must be a flat list x, y, x, y"),
    ("an odd count", [[2, 2, 8, 2, 8, 8, 9]], "a polygon must be a flat list x, y, x, y"),
    ("two points", [[2, 2, 8, 8]], "a polygon must be a flat list x, y, x, y"),
    ("no point", [[]], "a polygon must be a flat list x, y, x, y"),
    ("numbers without a list", [2, 2, 8, 2, 8, 8], "a polygon must be a flat list x, y, x, y"),
    ("900 lists", NESTED, "a polygon must be a flat list x, y, x, y"),
    ("a text", "mask.png", "'segmentation' must be a list of polygons or a run-length mask, got 'mask.png'"),
    ("a number", 7, "'segmentation' must be a list of polygons or a run-length mask, got 7"),
    ("run lengths of another size", {"size": [9, 9], "counts": [81]}, "its run-length mask has size [9, 9] but the"),
    ("run lengths of 10^9 pixels", {"size": [40_000, 25_000], "counts": [10**9]}, "its run-length mask has size"),
    ("run lengths with a size of floats", {"size": [24.0, 40.0], "counts": [960]}, "its run-length mask has size"),
    ("run lengths with a size of text", {"size": "24x40", "counts": [960]}, "a run-length mask needs 'size'"),
    ("run lengths without counts", WHOLE, "a run-length mask needs 'size' [height, width] and 'counts'"),
    ("too many pixels", {**WHOLE, "counts": [960, 1]}, "its run-length mask"),
    ("too few pixels", {**WHOLE, "counts": [100, 100]}, "its run-length mask covers 200 pixels, not 24 x 40"),
    ("negative counts", {**WHOLE, "counts": [-5, 965]}, "its run-length mask cannot be read (counts must be whole"),
    ("counts of floats", {**WHOLE, "counts": [1.5, 958.5]}, "its run-length mask cannot be read (counts must be"),
    ("counts of 2^32", {**WHOLE, "counts": [2**32 + 960]}, "its run-length mask cannot be read (counts must be"),
    ("counts of 400 digits", {**WHOLE, "counts": [HUGE]}, "its run-length mask cannot be read (counts must be whole"),
    ("counts in lists", {**WHOLE, "counts": [[960]]}, "its run-length mask cannot be read (counts must be whole"),
    ("a text that is no code", {**WHOLE, "counts": "garbage"}, "its run-length mask cannot be read (RLE string is"),
    ("a code that breaks off", {**WHOLE, "counts": "o" * 10_000}, "its run-length mask cannot be read (RLE string"),
    ("a code that is not ASCII", {**WHOLE, "counts": "größe"}, "its run-length mask cannot be read"),
    ("a code of zeros", {**WHOLE, "counts": "0" * 10_000}, "its run-length mask covers 0 pixels, not 24 x 40"),
]
EMPTY: list[tuple[str, object]] = [
    ("run lengths of background", {**WHOLE, "counts": [960]}),
    ("a polygon outside", [[200, 200, 210, 200, 210, 210]]),
    ("a polygon that is a point", [[2, 2, 2, 2, 2, 2]]),
    ("a polygon that is a line", [[2, 2, 8, 8, 2, 2]]),
]
FIRST, ALL = "annotations.0.segmentation", "annotations.*.segmentation"


def with_predictions(build: Build) -> Build:
    """Return a builder that also writes an empty list of predictions."""

    def both(folder: Path) -> None:
        build(folder)
        (folder / "predictions.json").write_text("[]")

    return both


CASES = [
    Case(f"{name}, for masks", coco(put(FIRST, value)), read_masks, f"labels.json, annotation 1: {words}")
    for name, value, words in FAULTS
]
CASES += [
    Case(f"{name}, for boxes", coco(put(FIRST, value)), read_boxes, "1 segmentation cannot be read", noted=True)
    for name, value, words in FAULTS
]
CASES += [
    Case(f"{name}, evaluated", with_predictions(coco(put(FIRST, value))), evaluate(), "labels.json, annotation 1: ")
    for name, value, words in FAULTS
]
CASES += [
    Case(f"{name}, once", coco(put(FIRST, value)), read_masks,
         "labels.json: 1 mask without a pixel in the image, skipped: annotation 1", noted=True)
    for name, value in EMPTY
]  # fmt: skip
CASES += [
    Case(f"{name}, everywhere", coco(put(ALL, value)), read_masks,
         "no usable annotation is left: labels.json: 6 masks without a pixel in the image, skipped: annotation 1, 2, 3")
    for name, value in EMPTY
]  # fmt: skip
CASES += [
    Case(f"{name}, evaluated", with_predictions(coco(put(FIRST, value))), evaluate(),
         "1 annotation whose mask has no pixel in the image, left out", noted=True)
    for name, value in EMPTY
]  # fmt: skip
CASES.append(
    Case("no masks", coco(put(ALL, None)), read_masks, "labels.json: 6 of 6 annotations have no 'segmentation'")
)
