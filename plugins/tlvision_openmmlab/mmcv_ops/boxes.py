"""Overlaps of boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from tlvision_openmmlab.mmcv_ops.kernels import Operators, working

_IOU = 0


@torch.no_grad()  # no autograd.Function of mmcv stands around it, and upstream's kernel has no gradient
def bbox_overlaps(first: Tensor, second: Tensor, overlaps: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Write the overlaps of boxes into `overlaps`: (M, N), or (M,) where they are `aligned` pair by pair.

    first, second: (M, 4) and (N, 4) x0 y0 x1 y1 in pixels.
    mode:          0 for the IoU, 1 for the part of the first box that is covered.
    offset:        1 if x1 and y1 name the last pixel inside, else 0.

    Where there is no area to divide by the overlap is 0; upstream's kernels give nan there.
    """
    one, two = working(first), working(second)
    if not aligned:
        one, two = one[:, None], two[None]
    overlaps.copy_(overlap(one, two, offset, union=mode == _IOU))


def overlap(one: Tensor, two: Tensor, offset: int, *, union: bool = True) -> Tensor:
    """Return the area that boxes (…, 4) share, divided by that of their union or of the first: (…)."""
    sides = torch.minimum(one[..., 2:], two[..., 2:]) - torch.maximum(one[..., :2], two[..., :2]) + offset
    inter = sides.clamp(min=0).prod(-1)
    whole = _area(one, offset)
    if union:
        whole = whole + _area(two, offset) - inter
    return torch.where(whole > 0, inter / whole, 0)


def _area(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] + offset).prod(-1)


OPERATORS: Operators = {"bbox_overlaps": bbox_overlaps}
