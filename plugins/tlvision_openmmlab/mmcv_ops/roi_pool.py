"""RoIPool, in plain torch: torchvision's kernel rounds a RoI to whole pixels first, mmcv's does not.

Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tlvision_openmmlab.mmcv_ops.kernels import Operators, working

_NOWHERE = -1


def roi_pool_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the maxima into `output`, (K, C, pooled_height, pooled_width), and their places into `argmax`.

    features: (N, C, H, W). rois: (K, 5), image index and x0 y0 x1 y1 in pixels of the image, x1 and y1 the last inside.
    argmax:   as `output`, int32; y * W + x of each maximum, the first of equal ones, or -1 in a bin without any pixel,
              whose value is 0.
    """
    values = working(features)
    boxes = rois.to(values.dtype)
    columns = _bins(boxes[:, 1], boxes[:, 3], spatial_scale, pooled_width, values.shape[3])
    rows = _bins(boxes[:, 2], boxes[:, 4], spatial_scale, pooled_height, values.shape[2])
    output.zero_()
    argmax.fill_(_NOWHERE)
    for roi, batch in enumerate(rois[:, 0].long().tolist()):
        for column, (left, right) in enumerate(columns[roi]):
            if left >= right:
                continue
            along, x = values[batch, :, :, left:right].max(dim=2)  # (C, H)
            for row, (top, bottom) in enumerate(rows[roi]):
                if top >= bottom:
                    continue
                output[roi, :, row, column], y = along[:, top:bottom].max(dim=1)
                y = y + top
                argmax[roi, :, row, column] = y * values.shape[3] + x.gather(1, y[:, None])[:, 0] + left


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the gradient of the features into `grad_input`, (N, C, H, W): to each bin's maximum."""
    grad, (channels, height, width) = working(grad_output), grad_input.shape[1:]
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)  # (K, C)
    place = plane[..., None, None] * (height * width) + argmax
    found = argmax != _NOWHERE
    total = grad.new_zeros(grad_input.numel()).index_add_(0, place[found], grad[found])
    grad_input.copy_(total.view_as(grad_input))


def _bins(start: Tensor, end: Tensor, scale: float, bins: int, size: int) -> list[list[tuple[int, int]]]:
    """Return the first pixel of each bin and the one behind its last, for each RoI; equal where the bin is empty."""
    start, end = start * scale, (end + 1) * scale
    step = ((end - start) / bins)[:, None]
    count = torch.arange(bins, device=start.device)
    low = (count * step + start[:, None]).floor().clamp(0, size)
    high = ((count + 1) * step + start[:, None]).ceil().clamp(0, size)
    high = torch.where(step > 0, high, low)
    return [list(zip(*pair, strict=True)) for pair in zip(low.long().tolist(), high.long().tolist(), strict=True)]


OPERATORS: Operators = {"roi_pool_forward": roi_pool_forward, "roi_pool_backward": roi_pool_backward}
