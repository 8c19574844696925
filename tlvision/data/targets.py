"""Paint placed samples onto one output: the image, its boxes, and on request instance masks or a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tlvision.data.augment import Placement
from tlvision.data.geometry import (
    MIN_SIDE,
    Boxes,
    Matrix,
    Region,
    apply,
    clip_boxes,
    clip_polygon,
    is_axis_aligned,
    paint_mask,
    transform_boxes,
    warp_boxes,
    warp_polygons,
    worth_keeping,
)
from tlvision.formats.coco.rle import mask_to_rle, polygons_to_mask, rle_to_mask, segment_to_mask
from tlvision.formats.label_maps import read_label_map
from tlvision.types import IGNORE_INDEX, InputError, Pixels, Polygons, Rle, Sample, Target

Kept = npt.NDArray[np.bool_]


def place_target(
    samples: Sequence[Sample], placements: Sequence[Placement], size: tuple[int, int], *, masks: bool
) -> Target:
    """Return the objects of all samples in output pixels, without crowd objects and those that are no longer visible.

    size:  height and width of the output.
    masks: whether to render `Target.masks`; an object whose mask comes out empty is then left out too, and one that is
           cut gets the box around what is left of its mask.

    Raises InputError if masks are needed and an object has no segmentation.
    """
    boxes, labels, rendered = [], [], []
    for sample, placement in zip(samples, placements, strict=True):
        if not len(sample.target):
            continue
        moved, keep = _place_boxes(sample, placement, size)
        keep &= ~sample.target.crowd
        if masks:
            some, keep = _place_masks(sample, placement, size, keep)
            some, keep = _fit_boxes(sample, placement, moved, some, keep)
            rendered.append(some)
        boxes.append(moved[keep])
        labels.append(sample.target.labels[keep])
    joined = np.concatenate(boxes) if boxes else np.zeros((0, 4), np.float32)
    return Target(
        boxes=joined,
        labels=np.concatenate(labels) if labels else np.zeros(0, np.int64),
        crowd=np.zeros(len(joined), bool),
        masks=np.concatenate([np.zeros((0, *size), np.uint8), *rendered]) if masks else None,
    )


def _place_boxes(sample: Sample, placement: Placement, size: tuple[int, int]) -> tuple[Boxes, Kept]:
    """Return boxes as annotated where they stay upright; where they turn, boxes around the outlines, if any."""
    moved, keep = warp_boxes(sample.target.boxes, placement.matrix, size, placement.region)
    if is_axis_aligned(placement.matrix):
        return moved, keep
    canvas = (0.0, 0.0, float(size[1]), float(size[0]))
    for index, segment in enumerate(sample.segments):
        if not isinstance(segment, tuple):
            continue
        whole = _bounds([apply(placement.matrix, part) for part in segment])
        cut = [clip_polygon(part.astype(np.float64), placement.region or _all_of(sample)) for part in segment]
        visible = _bounds([clip_polygon(apply(placement.matrix, part), canvas) for part in cut])
        moved[index] = visible
        keep[index] = worth_keeping(whole[None], visible[None])[0]
    return moved, keep


def _all_of(sample: Sample) -> Region:
    return 0.0, 0.0, float(sample.width), float(sample.height)


def _bounds(parts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    points = np.concatenate(parts)
    if len(points) == 0:
        return np.zeros(4)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _place_masks(sample: Sample, placement: Placement, size: tuple[int, int], keep: Kept) -> tuple[Pixels, Kept]:
    masks = []
    keep = keep.copy()
    for index in np.flatnonzero(keep).tolist():
        segment = sample.segments[index]
        if segment is None:
            raise InputError(
                f"image {sample.image_id} ({sample.path.name}): its object number {index + 1} has no segmentation, "
                "which training with masks needs; label it or train boxes only"
            )
        mask = _place_mask(segment, sample, placement, size)
        if mask.any():
            masks.append(mask)
        else:
            keep[index] = False
    return np.stack(masks) if masks else np.zeros((0, *size), np.uint8), keep


def _fit_boxes(sample: Sample, placement: Placement, moved: Boxes, masks: Pixels, keep: Kept) -> tuple[Pixels, Kept]:
    """Fit boxes, in place, to the visible part of their masks if they are rotated or cut by an edge.

    The visible part of such an object may fill only a corner of the visible part of its box. Returns the masks and
    flags without objects of which the edge leaves next to nothing.
    """
    indices = np.flatnonzero(keep)
    bounds = _mask_bounds(masks)
    if is_axis_aligned(placement.matrix):
        whole = transform_boxes(sample.target.boxes[indices], placement.matrix)
        cut = (np.abs(whole - moved[indices]) > 1e-3).any(axis=1)
    else:
        cut = np.ones(len(indices), bool)
    moved[indices[cut]] = bounds[cut]
    seen = ((bounds[:, 2:] - bounds[:, :2]) > MIN_SIDE).all(axis=1) | ~cut
    keep = keep.copy()
    keep[indices[~seen]] = False
    return masks[seen], keep


def _mask_bounds(masks: Pixels) -> Boxes:
    """Return the boxes around (M, H, W) masks, none of which is empty."""
    ends = []
    for axis in (1, 2):  # any along rows leaves columns, and the other way round
        seen: Kept = masks.max(axis=axis) > 0
        ends.append((seen.argmax(axis=1), seen.shape[1] - seen[:, ::-1].argmax(axis=1)))
    (x0, x1), (y0, y1) = ends
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)


def _place_mask(segment: Polygons | Rle, sample: Sample, placement: Placement, size: tuple[int, int]) -> Pixels:
    canvas = np.zeros(size, np.uint8)
    if isinstance(segment, dict):
        paint_mask(canvas, rle_to_mask(segment), placement.matrix, placement.region)
        return canvas
    # Outlines are mapped before they become pixels, which keeps their edges sharp when the image grows.
    region = placement.region or _all_of(sample)
    cut = [clip_polygon(part.astype(np.float64), region).astype(np.float32) for part in segment]
    return polygons_to_mask(warp_polygons(tuple(cut), placement.matrix), *size)


def move_sample(sample: Sample, matrix: Matrix, *, min_visible: float) -> Sample:
    """Return a sample with the objects of its image after that was warped within its own frame.

    matrix:      pixels of the image -> pixels of the frame, which has the size of the image.
    min_visible: share of an object's area, 0..1. An object of which the frame shows less becomes a crowd region, which
                 counts neither as missed nor as a false positive.

    Outlines are mapped point by point, run-length masks are warped, and both are cut at the frame. A box is the mapped
    box; if the image turns, it is the box around the mapped outline or mask. An object without either is treated as
    the ellipse in its box then: on 746 objects of COCO, turned by 15 degrees, the box around the ellipse has a mean IoU
    of 0.78 with the box around the mask, and the box around the corners 0.69 (Kalra et al. 2021, "Towards Rotation
    Invariance in Object Detection"). Objects that leave the frame or shrink below a pixel are left out.

    `Sample.label_map` is a file and stays as it is.
    """
    moved = [(found, index) for index in range(len(sample.target)) if (found := _move_object(sample, index, matrix))]
    indices = [index for _, index in moved]
    hidden = np.array([found.visible < min_visible for found, _ in moved], bool)
    target = Target(
        boxes=np.array([found.box for found, _ in moved], np.float32).reshape(-1, 4),
        labels=sample.target.labels[indices],
        crowd=sample.target.crowd[indices] | hidden,
    )
    return replace(sample, target=target, segments=tuple(found.segment for found, _ in moved))


@dataclass(frozen=True, slots=True)
class _Moved:
    """An object after a warp: its box x0 y0 x1 y1, its segmentation, and the share of its area that is visible."""

    box: npt.NDArray[np.float64]
    segment: Polygons | Rle | None
    visible: float


def _move_object(sample: Sample, index: int, matrix: Matrix) -> _Moved | None:
    segment, box = sample.segments[index], sample.target.boxes[index].astype(np.float64)
    frame = _all_of(sample)
    segment_moved: Polygons | Rle | None = None
    if isinstance(segment, dict):
        mask = rle_to_mask(segment)
        canvas = np.zeros((sample.height, sample.width), np.uint8)
        paint_mask(canvas, mask, matrix)
        if not canvas.any():
            return None
        around = _mask_bounds(canvas[None])[0].astype(np.float64)
        visible = int(canvas.sum()) / (int(mask.sum()) * abs(float(np.linalg.det(matrix[:2, :2]))))
        segment_moved = mask_to_rle(canvas)
    else:
        outline = segment or (_corners(box) if is_axis_aligned(matrix) else _ellipse(box),)
        mapped = [apply(matrix, part) for part in outline]
        cut = [part for part in (clip_polygon(points, frame) for points in mapped) if len(part) >= 3]
        if not cut:
            return None
        around = _bounds(cut)
        visible = sum(map(_area, cut)) / max(sum(map(_area, mapped)), 1e-9)
        segment_moved = segment and tuple(part.astype(np.float32) for part in cut)
    if is_axis_aligned(matrix):
        around = clip_boxes(transform_boxes(box[None], matrix), frame)[0]
    return _Moved(around, segment_moved, visible) if (around[2:] - around[:2] >= 1).all() else None


def _corners(box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)


def _ellipse(box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (72, 2) points of the ellipse in a box."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return (box[:2] + box[2:]) / 2 + unit * (box[2:] - box[:2]) / 2


def _area(points: npt.NDArray[np.float64]) -> float:
    """Return the area of a polygon (K, 2), by the shoelace formula."""
    following = np.roll(points, -1, axis=0)
    return abs(float((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum())) / 2


def semantic_map(sample: Sample, background: int | None) -> Pixels:
    """Return the label map of a sample at original size: (height, width) uint8 class indices.

    Of a sample with a `label_map` it is that file's. Else the objects are drawn one after the other: where they overlap
    the later annotation wins. Crowd regions are IGNORE_INDEX. A pixel without an object is `background`, the index of
    the class of that name, or IGNORE_INDEX if that is None.

    Raises InputError if an object has no segmentation or the file cannot be used.
    """
    if sample.label_map is not None:
        return read_label_map(sample.label_map)
    labels = np.full((sample.height, sample.width), IGNORE_INDEX if background is None else background, np.uint8)
    for index, segment in enumerate(sample.segments):
        if segment is None:
            raise InputError(
                f"image {sample.image_id} ({sample.path.name}): its object number {index + 1} has no segmentation, "
                "which a semantic task needs; label it"
            )
        value = IGNORE_INDEX if sample.target.crowd[index] else sample.target.labels[index]
        labels[segment_to_mask(segment, sample.height, sample.width) > 0] = value
    return labels
