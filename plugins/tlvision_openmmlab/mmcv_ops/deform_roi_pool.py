"""RoIAlign whose bins are moved by learnt offsets, in plain torch.

Source: Dai et al., "Deformable convolutional networks", ICCV 2017, section 2.2, with bilinear samples as in RoIAlign.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from tlvision.plugin import constants
from tlvision_openmmlab.mmcv_ops.kernels import Operators, bilinear, gradients, working

# Values sampled at once: bounds the memory, forward and backward.
_AT_ONCE = 2**22


def deform_roi_pool_forward(
    features: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the pooled features into `output`, (K, C, pooled_height, pooled_width).

    features: (N, C, H, W). rois: (K, 5), image index and x0 y0 x1 y1 in pixels of the image.
    offset:   (K, 2, pooled_height, pooled_width), x and y in parts of the RoI, times `gamma`; or empty.
    """
    boxes = _boxes(rois, features, spatial_scale)
    for some, counts in _alike(boxes, output, sampling_ratio):
        moved = offset[some] if offset.numel() else output.new_zeros((len(some), 2, pooled_height, pooled_width))
        pooled = _pool(working(features), working(moved), rois[some, 0].long(), boxes[some], counts, gamma)
        output[some] = pooled.to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    features: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the gradients of features and, where there are any, offsets."""
    boxes = _boxes(rois, features, spatial_scale)
    total = working(torch.zeros_like(grad_input))
    for some, counts in _alike(boxes, grad_output, sampling_ratio):
        moved = offset[some] if offset.numel() else grad_output.new_zeros((len(some), 2, pooled_height, pooled_width))
        pool = partial(_pool, batch=rois[some, 0].long(), boxes=boxes[some], counts=counts, gamma=gamma)
        found = gradients(pool, [working(features), moved], grad_output[some])
        total += found[0]
        if grad_offset.numel():
            grad_offset[some] = found[1].to(grad_offset.dtype)
    grad_input.copy_(total)


def _boxes(rois: Tensor, features: Tensor, scale: float) -> Tensor:
    """Return the RoIs as (K, 4) x0 y0 x1 y1 in pixels of the features, the centre of the first at 0."""
    return rois[:, 1:].to(working(features[:0]).dtype) * scale - 0.5


def _alike(boxes: Tensor, pooled: Tensor, ratio: int) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Yield the rows of RoIs that are pooled at once, and their samples along the width and the height of a bin.

    Fixed by `ratio`, or one for each pixel that a bin covers: then RoIs of equal counts go together.
    """
    channels, bins_y, bins_x = pooled.shape[1:]
    sides = boxes[:, 2:] - boxes[:, :2]
    counts = (sides / constants([bins_x, bins_y], sides)).ceil().long().clamp(min=0)
    if ratio > 0:
        counts = torch.full_like(counts, ratio)
    for columns, rows in torch.unique(counts, dim=0).tolist():
        every = ((counts[:, 0] == columns) & (counts[:, 1] == rows)).nonzero()[:, 0]
        values = channels * bins_y * bins_x * max(rows * columns, 1)
        for some in every.split(max(_AT_ONCE // values, 1)):
            yield some, (columns, rows)


def _pool(
    features: Tensor, offset: Tensor, batch: Tensor, boxes: Tensor, counts: tuple[int, int], gamma: float
) -> Tensor:
    """Pool RoIs with the same number of samples: (K, C, bins_y, bins_x)."""
    columns, rows = counts
    bins_y, bins_x = offset.shape[2:]
    width, height = ((boxes[:, axis + 2] - boxes[:, axis]).view(-1, 1, 1, 1, 1) for axis in (0, 1))
    # (K, bins_y, bins_x, rows, columns)
    x = _places(boxes[:, 0], boxes[:, 2], bins_x, columns)[:, None, :, None, :]
    y = _places(boxes[:, 1], boxes[:, 3], bins_y, rows)[:, :, None, :, None]
    x = x + gamma * width * offset[:, 0, :, :, None, None]
    y = y + gamma * height * offset[:, 1, :, :, None, None]
    shape = (len(boxes), bins_y, bins_x, rows, columns)
    x, y = (each.expand(shape).reshape(len(boxes), -1) for each in (x, y))
    found = bilinear(features, batch, y, x).view(len(boxes), features.shape[1], *shape[1:])
    return found.sum(dim=(4, 5)) / max(rows * columns, 1)


def _places(start: Tensor, end: Tensor, bins: int, count: int) -> Tensor:
    """Return the places of the samples along one side: (K, bins, count)."""
    step = ((end - start) / bins)[:, None, None]
    bin_ = torch.arange(bins, device=start.device, dtype=start.dtype)[None, :, None]
    inside = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / max(count, 1)
    return start[:, None, None] + (bin_ + inside) * step


OPERATORS: Operators = {
    "deform_roi_pool_forward": deform_roi_pool_forward,
    "deform_roi_pool_backward": deform_roi_pool_backward,
}
