"""Non-maximum suppression: hard (torchvision's kernel), soft, and with what each box suppressed (plain torch).

Sources: Bodla et al., "Soft-NMS", ICCV 2017, equations 2 and 3; Cao et al., "Prime sample attention in object
detection", CVPR 2020, for the matched form.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from tlvision_openmmlab.mmcv_ops.boxes import overlap
from tlvision_openmmlab.mmcv_ops.kernels import Operators, working

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that stay, best score first: (K,) int64.

    boxes:  (N, 4) x0 y0 x1 y1 in pixels. scores: (N,).
    offset: 1 where x1 and y1 name the last pixel inside (a box of x0 = x1 is one pixel wide), else 0.

    A box goes where its IoU with a better one that stays is above `iou_threshold`.
    """
    places = working(boxes)
    if offset:
        places = torch.cat([places[:, :2], places[:, 2:] + offset], dim=1)
    kept: Tensor = torchvision.ops.nms(places, scores.to(places.dtype), iou_threshold)
    return kept


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap better ones, and return the indices in the order in which they are taken.

    boxes:  (N, 4) x0 y0 x1 y1 in pixels. scores: (N,). Both on the CPU, where mmcv brings them.
    dets:   (N, 5); its first K rows get the boxes taken and their scores.
    method: 0 drops what overlaps by `iou_threshold` or more, 1 multiplies its score by 1 - IoU, 2 multiplies every
            score by exp(-IoU^2 / sigma).
    offset: as for `nms`.

    A box whose score falls below `min_score` is dropped; one that nothing has lowered yet is dropped with the first
    that is taken. Returns (K,) int64.
    """
    places, left = working(boxes), working(scores).clone()
    rest, taken = torch.arange(len(boxes)), []
    while len(rest):
        best = rest[left[rest].argmax()]
        taken.append(best)
        rest = rest[rest != best]
        left[rest] *= _weight(overlap(places[best], places[rest], offset), iou_threshold, sigma, method)
        rest = rest[left[rest] >= min_score]
    if not taken:
        return rest
    order = torch.stack(taken)
    dets[: len(order)] = torch.cat([places[order], left[order, None]], dim=1)
    return order


def _weight(iou: Tensor, threshold: float, sigma: float, method: int) -> Tensor:
    """Return the factors of the scores."""
    if method == _GAUSSIAN:
        return torch.exp(-(iou**2) / sigma)
    lowered = 1 - iou if method == _LINEAR else torch.zeros_like(iou)
    return torch.where(iou >= threshold, lowered, 1)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return groups of indices: a box that stays, and after it those that it suppresses, best score first.

    dets: (N, 5) x0 y0 x1 y1 score, in pixels. A box goes where the IoU is `iou_threshold` or more.
    """
    values = working(dets)
    places, order = values[:, :4], values[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        best, order = order[0], order[1:]
        near = overlap(places[best], places[order], 0) >= iou_threshold
        groups.append([int(best), *order[near].tolist()])
        order = order[~near]
    return groups


OPERATORS: Operators = {"nms": nms, "softnms": softnms, "nms_match": nms_match}
