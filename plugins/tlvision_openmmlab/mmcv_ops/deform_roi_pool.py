"""RoIAlign whose bins are moved by learnt offsets, in plain torch.

Source: Dai et al., "Deformable convolutional networks", ICCV 2017, section 2.2, with bilinear samples as in RoIAlign.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tlvision_openmmlab.mmcv_ops.kernels import Operators, bilinear, gradients, working

# RoIs pooled at once: bounds the memory of the samples.
_AT_ONCE = 64


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
    size = pooled_height, pooled_width
    output.copy_(_pool(working(features), working(offset), rois, size, spatial_scale, sampling_ratio, gamma))


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
    size = pooled_height, pooled_width
    pool = partial(_pool, rois=rois, size=size, scale=spatial_scale, ratio=sampling_ratio, gamma=gamma)
    found = gradients(pool, [features, offset], grad_output)
    grad_input.copy_(found[0])
    if grad_offset.numel():
        grad_offset.copy_(found[1])


def _pool(
    features: Tensor, offset: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, gamma: float
) -> Tensor:
    boxes = rois[:, 1:].to(features.dtype) * scale - 0.5
    sides = boxes[:, 2:] - boxes[:, :2]  # width, height
    # Samples along each side of a bin: fixed, or one for each pixel that it covers. RoIs of equal counts go together.
    bins = sides.new_tensor([size[1], size[0]])
    counts = torch.full_like(sides, ratio).long() if ratio > 0 else (sides / bins).ceil().long().clamp(min=0)
    parts, order = [], []
    for pair in torch.unique(counts, dim=0):
        rows = (counts == pair).all(1).nonzero()[:, 0]
        for some in rows.split(_AT_ONCE):
            moved = offset[some] if offset.numel() else None
            parts.append(_pool_alike(features, moved, rois[some, 0].long(), boxes[some], size, pair.tolist(), gamma))
            order.append(some)
    if not parts:
        return features.new_zeros((0, features.shape[1], *size)) + 0 * features.sum()
    return torch.cat(parts)[torch.cat(order).argsort()]


def _pool_alike(
    features: Tensor,
    offset: Tensor | None,
    batch: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    counts: list[int],
    gamma: float,
) -> Tensor:
    """Pool RoIs with the same number of samples: (K, C, bins_y, bins_x)."""
    columns, rows = counts
    x, y = (
        _places(boxes[:, axis], boxes[:, axis + 2], bins, count)
        for axis, bins, count in ((0, size[1], columns), (1, size[0], rows))
    )
    # (K, bins_y, bins_x, rows, columns)
    x, y = x[:, None, :, None, :], y[:, :, None, :, None]
    if offset is not None:
        width, height = ((boxes[:, axis + 2] - boxes[:, axis]).view(-1, 1, 1, 1, 1) for axis in (0, 1))
        x = x + gamma * width * offset[:, 0, :, :, None, None]
        y = y + gamma * height * offset[:, 1, :, :, None, None]
    shape = (len(boxes), *size, rows, columns)
    x, y = (each.expand(shape).reshape(len(boxes), -1) for each in (x, y))
    found = bilinear(features, batch, y, x).view(len(boxes), -1, *shape[1:])
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
