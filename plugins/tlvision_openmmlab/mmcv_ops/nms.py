"""Non-maximum suppression."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that stay, best score first: (K,) int64.

    boxes:  (N, 4) x0 y0 x1 y1 in pixels. scores: (N,).
    offset: 1 where x1 and y1 name the last pixel inside (a box of x0 = x1 is one pixel wide), else 0.
    """
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(boxes, scores, iou_threshold)


OPERATORS = {"nms": nms}
