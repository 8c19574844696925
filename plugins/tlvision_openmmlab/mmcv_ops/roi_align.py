"""RoIAlign."""

from __future__ import annotations

import torchvision
from torch import Tensor


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features into `output`."""
    if pool_mode == 0:
        raise NotImplementedError("roi_align: maximum pooling")
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(features, rois.to(features.dtype), size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the features into `grad_input`."""
    import torch

    n, c, h, w = grad_input.shape
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.contiguous(), rois.to(grad_output.dtype), spatial_scale, aligned_height, aligned_width, n, c, h, w, sampling_ratio, aligned
        )
    )


OPERATORS = {"roi_align_forward": roi_align_forward, "roi_align_backward": roi_align_backward}
