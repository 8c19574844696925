"""Windows of large images: where they lie, and what is labelled in each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlvision.data.geometry import clip_boxes, clip_polygon
from tlvision.formats.coco.rle import mask_to_rle, polygons_to_mask, rle_to_mask
from tlvision.types import Polygons, Rle, Sample, Target

Window = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels of the image."""


def tile_windows(height: int, width: int, size: int, overlap: float) -> list[Window]:
    """Return the tiles of an image, row by row, evenly spread; the whole image if it is not larger than a tile.

    size:    side of a tile in pixels; a shorter side of the image makes the tiles shorter.
    overlap: least share of a tile that its neighbour shows as well, 0 <= overlap < 1.

    >>> tile_windows(100, 250, 100, 0.2)
    [(0, 0, 100, 100), (75, 0, 175, 100), (150, 0, 250, 100)]
    """
    tall, wide = min(size, height), min(size, width)
    tops, lefts = tile_starts(height, tall, overlap), tile_starts(width, wide, overlap)
    return [(left, top, left + wide, top + tall) for top in tops for left in lefts]


def tile_starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where tiles of `side` begin so that they cover `length`, evenly spread and overlapping enough.

    >>> tile_starts(100, 100, 0.2), tile_starts(250, 100, 0.5)
    ([0], [0, 50, 100, 150])
    """
    if length <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    count = -(-(length - side) // step) + 1
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows begin, evenly spread, so that they cover `length` and overlap by a third at least.

    >>> window_starts(640, 256), window_starts(256, 256)
    ([0, 128, 256, 384], [0])
    """
    if length <= window:
        return [0]
    count = -(-(length - window) // max(1, window * 2 // 3)) + 1
    return [round(number * (length - window) / (count - 1)) for number in range(count)]


def cut_sample(sample: Sample, window: Window, path: Path, *, min_visible: float) -> tuple[Sample, int]:
    """Return the labels in a window of an image, and how many objects are there but too small a part of themselves.

    path:        image file of the window.
    min_visible: least share of an object's area, or of its box without a segmentation, in the window. Crowd regions
                 stay however little is seen of them.

    Boxes and outlines are in pixels of the window. Of an object that the window cuts, the box is that of its visible
    part.
    """
    x0, y0, x1, y1 = window
    kept, boxes, segments, cut = [], [], [], 0
    for index, box in enumerate(sample.target.boxes.astype(np.float64)):
        seen = clip_boxes(box[None], (float(x0), float(y0), float(x1), float(y1)))[0]
        if not (seen[2:] > seen[:2]).all():
            continue
        share = float((seen[2:] - seen[:2]).prod() / (box[2:] - box[:2]).prod())
        segment = sample.segments[index]
        if share < 1 and segment is not None:
            segment, seen, share = _cut_segment(segment, sample, window, seen)
        elif segment is not None:
            segment = _moved(segment, window)
        if share < min_visible and not sample.target.crowd[index]:
            cut += share > 0
            continue
        kept.append(index)
        boxes.append(seen - [x0, y0, x0, y0])
        segments.append(segment)
    target = Target(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=sample.target.labels[kept],
        crowd=sample.target.crowd[kept],
    )
    tile = replace(sample, path=path, width=x1 - x0, height=y1 - y0, target=target, segments=tuple(segments))
    return replace(tile, exif=False, bits=16, origin=sample.path), cut


def _moved(segment: Polygons | Rle, window: Window) -> Polygons | Rle:
    """Return a segmentation that lies in the window, in pixels of the window."""
    if isinstance(segment, dict):
        return mask_to_rle(_window_of(rle_to_mask(segment), window))
    return tuple((part - np.array(window[:2])).astype(np.float32) for part in segment)


def _cut_segment(
    segment: Polygons | Rle, sample: Sample, window: Window, seen: npt.NDArray[np.float64]
) -> tuple[Polygons | Rle | None, npt.NDArray[np.float64], float]:
    """Return the visible part of a segmentation in pixels of the window, its box in the image, and its share."""
    whole = (
        rle_to_mask(segment) if isinstance(segment, dict) else polygons_to_mask(segment, sample.height, sample.width)
    )
    inside = _window_of(whole, window)
    if not inside.any():  # elsewhere, or thinner than a pixel
        return None, seen, 0.0
    share = float(inside.sum() / whole.sum())
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    low = np.array([columns[0], rows[0]]) + np.array(window[:2])
    high = np.array([columns[-1] + 1, rows[-1] + 1]) + np.array(window[:2])
    box = np.concatenate([np.maximum(seen[:2], low), np.minimum(seen[2:], high)])
    if isinstance(segment, dict):
        return mask_to_rle(inside), box, share
    limits = (float(window[0]), float(window[1]), float(window[2]), float(window[3]))
    parts = [clip_polygon(part.astype(np.float64), limits) for part in segment]
    outline = tuple((part - np.array(window[:2])).astype(np.float32) for part in parts if len(part) >= 3)
    return outline or mask_to_rle(inside), box, share


def _window_of(mask: npt.NDArray[np.uint8], window: Window) -> npt.NDArray[np.uint8]:
    x0, y0, x1, y1 = window
    return np.ascontiguousarray(mask[y0:y1, x0:x1])
