"""Multi-scale deformable attention in plain torch.

It goes through the levels one by one, forward and backward, so that the samples of only one are held at a time.

Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops.kernels import Operators, gradients, working


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values, (N, queries, heads * channels).

    value: (N, keys, heads, channels), all levels one behind the other. spatial_shapes: (levels, 2) int64, height and
    width. level_start_index: (levels,) int64, the first key of each. sampling_locations: (N, queries, heads, levels,
    points, 2), x and y in 0..1 of each level. attention_weights: (N, queries, heads, levels, points). im2col_step: of
    upstream's kernel, not used.
    """
    count, _, heads, channels = value.shape
    shape = (count, sampling_locations.shape[1], heads * channels)
    total = torch.zeros(shape, dtype=working(value[:0]).dtype, device=value.device)
    for level, size, keys in _levels(spatial_shapes, level_start_index):
        places, weights = sampling_locations[:, :, :, level], attention_weights[:, :, :, level]
        total += _attend(working(value[:, keys]), working(places), working(weights), size)
    return total.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of values, places and weights."""
    for level, size, keys in _levels(spatial_shapes, level_start_index):
        inputs = [value[:, keys], sampling_locations[:, :, :, level], attention_weights[:, :, :, level]]
        found = gradients(partial(_attend, size=size), inputs, grad_output)
        grad_value[:, keys] = found[0]
        grad_sampling_loc[:, :, :, level] = found[1]
        grad_attn_weight[:, :, :, level] = found[2]


def _levels(spatial_shapes: Tensor, level_start_index: Tensor) -> Iterator[tuple[int, tuple[int, int], slice]]:
    """Yield the number of each level, its height and width, and its keys."""
    for level, (size, start) in enumerate(zip(spatial_shapes.tolist(), level_start_index.tolist(), strict=True)):
        height, width = size
        yield level, (height, width), slice(start, start + height * width)


def _attend(value: Tensor, locations: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what one level adds: (N, queries, heads * channels).

    value: (N, H * W, heads, channels). locations: (N, queries, heads, points, 2). weights: (N, queries, heads, points).
    """
    count, queries, heads, points = weights.shape
    maps = value.permute(0, 2, 3, 1).reshape(count * heads, -1, *size)
    grid = (2 * locations - 1).transpose(1, 2).reshape(count * heads, queries, points, 2)
    samples = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    share = weights.transpose(1, 2).reshape(count * heads, 1, queries, points)
    return (samples * share).sum(dim=3).view(count, -1, queries).transpose(1, 2)


OPERATORS: Operators = {
    "ms_deform_attn_forward": ms_deform_attn_forward,
    "ms_deform_attn_backward": ms_deform_attn_backward,
}
