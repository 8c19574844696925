"""Mix two training inputs of one size: MixUp, CutMix, and objects copied from one into the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tlvision.data.geometry import MIN_SIDE, MIN_VISIBLE
from tlvision.types import Pixels, Target

Input = tuple[Pixels, Target]
"""A network input (H, W, 3) uint8 RGB with its target, numpy, in pixels of that input."""
Hidden = npt.NDArray[np.bool_]


def mix_up(one: Input, other: Input, ratio: float) -> Input:
    """Return the weighted mean of both images with the objects of both.

    ratio: share of `one`, 0..1.

    Source: Zhang et al. 2018, "mixup"; for objects Zhang et al. 2019, "Bag of Freebies for Training Object Detection".
    Every object counts fully, however faint; label maps are not mixed.
    """
    image = ratio * one[0].astype(np.float32) + (1 - ratio) * other[0].astype(np.float32)
    return image.round().astype(np.uint8), _joined(one[1], other[1])


def cut_mix(one: Input, other: Input, region: tuple[int, int, int, int]) -> Input:
    """Return `one` with a rectangle of `other` in its place.

    region: x0, y0, x1, y1 in pixels, of both.

    Source: Yun et al. 2019, "CutMix". An object stays if enough of it is seen (`MIN_VISIBLE`), with its visible part.
    """
    x0, y0, x1, y1 = region
    inside = np.zeros(one[0].shape[:2], bool)
    inside[y0:y1, x0:x1] = True
    target = _joined(seen(one[1], inside), seen(other[1], ~inside))
    if one[1].semantic is not None and other[1].semantic is not None:
        target = replace(target, semantic=np.where(inside, other[1].semantic, one[1].semantic))
    return np.where(inside[..., None], other[0], one[0]), target


def copy_paste(one: Input, other: Input, chosen: npt.NDArray[np.bool_]) -> Input:
    """Return `one` with some objects of `other` pasted onto it.

    other:  its target has masks.
    chosen: (M,) which objects of `other`.

    Source: Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation";
    without blurred edges, which make no difference there (section 4.1). What is hidden behind pasted objects is no
    longer part of an object.
    """
    assert other[1].masks is not None
    masks, labels = other[1].masks[chosen], other[1].labels[chosen]
    hidden: Hidden = masks.any(axis=0) if len(masks) else np.zeros(one[0].shape[:2], bool)
    pasted = replace(
        other[1], boxes=other[1].boxes[chosen], labels=labels, crowd=other[1].crowd[chosen], masks=masks, semantic=None
    )
    below = seen(one[1], hidden)
    target = _joined(below, pasted if below.masks is not None else replace(pasted, masks=None))
    if one[1].semantic is not None:
        semantic = one[1].semantic.copy()
        for mask, label in zip(masks, labels, strict=True):
            semantic[mask > 0] = label
        target = replace(target, semantic=semantic)
    return np.where(hidden[..., None], other[0], one[0]), target


def seen(target: Target, hidden: Hidden) -> Target:
    """Return the objects of which enough is left outside of `hidden` (H, W), with the boxes around that.

    Of an object without a mask, its whole box counts as the object. `semantic` is left out.
    """
    boxes, masks = target.boxes.copy(), target.masks
    if masks is not None:
        masks = masks * ~hidden
    keep = np.ones(len(boxes), bool)
    for index, box in enumerate(target.boxes):
        x0, y0 = np.floor(box[:2]).astype(int).clip(min=0)
        x1, y1 = np.ceil(box[2:]).astype(int)
        here = (slice(y0, y1), slice(x0, x1))
        whole = np.ones_like(hidden[here]) if target.masks is None else target.masks[index][here] > 0
        left = whole & ~hidden[here]
        if left.sum() == whole.sum():
            continue
        if left.sum() < MIN_VISIBLE * whole.sum() or not left.any():
            keep[index] = False
            continue
        columns, rows = np.flatnonzero(left.any(axis=0)), np.flatnonzero(left.any(axis=1))
        around = np.array([x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1], np.float32)
        boxes[index] = np.concatenate([np.maximum(box[:2], around[:2]), np.minimum(box[2:], around[2:])])
        keep[index] = bool((boxes[index, 2:] - boxes[index, :2] > MIN_SIDE).all())
    return Target(
        boxes=boxes[keep],
        labels=target.labels[keep],
        crowd=target.crowd[keep],
        masks=None if masks is None else masks[keep],
    )


def _joined(one: Target, other: Target) -> Target:
    """Return the objects of both; the label map of the first."""
    return Target(
        boxes=np.concatenate([one.boxes, other.boxes]),
        labels=np.concatenate([one.labels, other.labels]),
        crowd=np.concatenate([one.crowd, other.crowd]),
        masks=None if one.masks is None or other.masks is None else np.concatenate([one.masks, other.masks]),
        semantic=one.semantic,
    )
