"""COCO's two ways to write a mask, polygons and run lengths, to and from our types and numpy masks.

The coding itself is done by faster-coco-eval, which gives what pycocotools' mask functions give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from faster_coco_eval import mask_api_new_cpp as mask_api
from faster_coco_eval.core import mask as coco_mask

from tlvision.formats.coco.rules import as_floats
from tlvision.types import InputError, Polygons, Rle
from tlvision.types.shown import shown

Mask = npt.NDArray[np.uint8]
LONGEST_OUTLINE = 1_000_000
"""Pixels: drawing a polygon takes 100 bytes for each."""


def parse_segmentation(value: object, height: int, width: int, where: str) -> Polygons | Rle | None:
    """Read the "segmentation" of an annotation.

    value:         from the json: a list of polygons (flat lists of x, y), a run-length mask, or None.
    height, width: of its image, in pixels.
    where:         file and annotation id, for messages.

    Returns polygons in pixels of the original image, an RLE in the compressed form, or None if there is nothing.
    Raises InputError if it is neither, or a run-length mask has another size than the image.

    >>> parse_segmentation([[1, 1, 4, 1, 4, 3]], 5, 6, "a.json, annotation 1")[0].shape
    (3, 2)
    """
    if value is None or value == []:
        return None
    if isinstance(value, list):
        return tuple(_polygon(part, where) for part in value)
    if isinstance(value, dict):
        return _rle(value, height, width, where)
    raise InputError(f"{where}: 'segmentation' must be a list of polygons or a run-length mask, got {shown(value, 40)}")


def _polygon(part: object, where: str) -> npt.NDArray[np.float32]:
    numbers = isinstance(part, list) and all(type(number) in (int, float) for number in part)
    if not numbers or len(part) < 6 or len(part) % 2:  # type: ignore[arg-type]
        raise InputError(
            f"{where}: a polygon must be a flat list x, y, x, y, … of at least three points, got {shown(part, 60)}; "
            "remove it or set 'segmentation' to []"
        )
    points = as_floats([part], len(part))  # type: ignore[arg-type, list-item]
    if not np.isfinite(points).all():
        raise InputError(f"{where}: a polygon has a coordinate that is not finite. Correct it, or remove the polygon")
    points = points.reshape(-1, 2)
    if len(points) * np.abs(points).max() > LONGEST_OUTLINE and (length := outline_length(points)) > LONGEST_OUTLINE:
        raise InputError(
            f"{where}: the outline of a polygon is {length:,.0f} pixels long, at most {LONGEST_OUTLINE:,} can be "
            "drawn. Correct it, or write the mask as run lengths"
        )
    return points.astype(np.float32)


def outline_length(points: npt.NDArray[np.float64]) -> float:
    """Return the number of pixels on the outline of a polygon, about. points: (K, 2), x and y in pixels.

    >>> outline_length(np.array([[0.0, 0], [10, 0], [10, 4]]))
    24.0
    """
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _rle(value: dict[str, object], height: int, width: int, where: str) -> Rle:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or not isinstance(counts, (str, list)):
        raise InputError(f"{where}: a run-length mask needs 'size' [height, width] and 'counts', got {sorted(value)}")
    if size != [height, width] or {*map(type, size)} != {int}:
        raise InputError(
            f"{where}: its run-length mask has size {shown(size)} but the image [height, width] {[height, width]}"
        )
    if isinstance(counts, list) and not all(type(count) is int and 0 <= count <= height * width for count in counts):
        raise InputError(
            f"{where}: its run-length mask cannot be read (counts must be whole numbers from 0 to {height * width}, "
            "the pixels of the image)"
        )
    try:
        if isinstance(counts, list):
            rle: Rle = coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
        else:
            rle = {"size": [height, width], "counts": counts.encode("ascii")}
        runs = mask_api.toUncompressedRLE([rle])[0]["counts"]
    except (ValueError, RuntimeError, TypeError, UnicodeEncodeError) as error:
        raise InputError(f"{where}: its run-length mask cannot be read ({error})") from error
    if math.fsum(runs) != height * width:
        raise InputError(
            f"{where}: its run-length mask covers {int(math.fsum(runs))} pixels, not {height} x {width}; write it again"
        )
    return {"size": [height, width], "counts": bytes(rle["counts"])}


def rle_to_mask(rle: Rle) -> Mask:
    """Decode to (H, W) uint8 with values 0 and 1, H and W from `rle["size"]`."""
    # Repeating numbers and turning the result, as runs go down the columns, takes a sixth of the time of `decode`.
    counts = mask_api.toUncompressedRLE([rle])[0]["counts"]
    height, width = rle["size"]
    flat = np.repeat((np.arange(len(counts)) % 2).astype(np.uint8), counts)
    return np.asarray(cv2.transpose(flat.reshape(width, height)), np.uint8)


def mask_to_rle(mask: Mask) -> Rle:
    """Encode an (H, W) uint8 mask of 0 and 1; the counterpart of `rle_to_mask`.

    >>> mask = np.eye(3, dtype=np.uint8)
    >>> bool((rle_to_mask(mask_to_rle(mask)) == mask).all())
    True
    """
    height, width = mask.shape
    # Runs go down the columns. Only the columns of the object are searched for their ends, which on a mask of 640 x 480
    # takes a sixth of the time of encoding it whole.
    x, y, columns, rows = cv2.boundingRect(np.asarray(mask, np.uint8))
    strip = np.zeros(columns * height + 2, np.uint8)  # a pixel of background before and after
    strip[1:-1].reshape(columns, height)[:, y : y + rows] = mask[y : y + rows, x : x + columns].T
    ends = np.flatnonzero(strip[1:] != strip[:-1]) + x * height
    counts = np.diff(ends, prepend=0, append=height * width).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": bytes(rle["counts"])}


def polygons_to_rle(polygons: Sequence[npt.NDArray[np.float32]], height: int, width: int) -> Rle:
    """Rasterise the parts of one object and join them; points outside the image are clipped to it.

    polygons: (K, 2) arrays of x, y in pixels of an image of `height` x `width`.
    """
    parts = [polygon.astype(np.float64).ravel().tolist() for polygon in polygons if len(polygon) >= 3]
    if not parts:
        return mask_to_rle(np.zeros((height, width), np.uint8))
    rle = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    return {"size": [height, width], "counts": bytes(rle["counts"])}


def polygons_to_mask(polygons: Sequence[npt.NDArray[np.float32]], height: int, width: int) -> Mask:
    """Rasterise the parts of one object, by COCO's own rule, to (height, width) uint8 with values 0 and 1."""
    return rle_to_mask(polygons_to_rle(polygons, height, width))


def segment_to_mask(segment: Polygons | Rle, height: int, width: int) -> Mask:
    """Return the mask of one object in an image of `height` x `width`: (height, width) uint8, 0 and 1."""
    return rle_to_mask(segment) if isinstance(segment, dict) else polygons_to_mask(segment, height, width)


def is_empty(segment: Polygons | Rle, height: int, width: int) -> bool:
    """Return whether no pixel of an image of `height` x `width` is set.

    >>> outside = np.array([[20, 1], [29, 1], [29, 9]], np.float32)
    >>> is_empty((outside,), 10, 10), is_empty((outside,), 10, 30)
    (True, False)
    """
    return mask_area(segment if isinstance(segment, dict) else polygons_to_rle(segment, height, width)) == 0


def mask_area(rle: Rle) -> int:
    """Return the number of pixels that are set."""
    return int(coco_mask.area(rle))
