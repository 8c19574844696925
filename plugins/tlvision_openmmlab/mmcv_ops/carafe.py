"""CARAFE, content-aware reassembly of features, in plain torch.

It goes through the neighbours one by one: all of them at once would take kernel_size^2 times the memory.

Source: Wang et al., "CARAFE: content-aware reassembly of features", ICCV 2019, equation 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType

import torch
from torch import Tensor
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops.kernels import Operators, working


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    routed_features: Tensor,
    routed_output: Tensor,
    routed_masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the upsampled features into `output`, (N, C, s * H, s * W) for the scale factor s.

    features: (N, C, H, W). masks: (N, group_size * kernel_size^2, s * H, s * W), the weights of the neighbours.
    routed_features: gets the features, which the backward pass is given. routed_output, routed_masks: not used.
    """
    routed_features.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    routed_features: Tensor,
    masks: Tensor,
    routed_grad_output: Tensor,
    routed_grad_input_hs: Tensor,
    routed_grad_input: Tensor,
    routed_grad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of features and masks; the routed tensors are upstream's working space."""
    carafe_naive_backward(
        grad_output, routed_features, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor
    )


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Write the upsampled features into `output`; see `carafe_forward`."""
    values, weights = _enlarged(working(features), kernel_size, group_size, scale_factor), working(masks)
    total = values.new_zeros(_grouped(output, group_size).shape)
    for window, weight in _neighbours(weights, kernel_size, group_size, scale_factor):
        total.addcmul_(values[window], weight)
    output.copy_(total.view(output.shape))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of features and masks."""
    values, weights = _enlarged(working(features), kernel_size, group_size, scale_factor), working(masks)
    grad, grad_values = _grouped(working(grad_output), group_size), values.new_zeros(values.shape)
    found = []
    for window, weight in _neighbours(weights, kernel_size, group_size, scale_factor):
        found.append((grad * values[window]).sum(dim=2))
        grad_values[window].addcmul_(grad, weight)
    grad_masks.copy_(torch.stack(found, dim=2).view(masks.shape))
    border = kernel_size // 2
    height, width = (side + 2 * border for side in features.shape[2:])
    each = grad_values.view(*features.shape[:2], height, scale_factor, width, scale_factor).sum(dim=(3, 5))
    grad_input.copy_(each[:, :, border : height - border, border : width - border])


def _grouped(values: Tensor, groups: int) -> Tensor:
    return values.reshape(len(values), groups, -1, *values.shape[2:])


def _enlarged(features: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """Return the features with a border of zeros, each pixel repeated: (N, groups, C / groups, rows, columns)."""
    padded = functional.pad(features, [kernel // 2] * 4)
    return _grouped(padded.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3), groups)


def _neighbours(
    masks: Tensor, kernel: int, groups: int, scale: int
) -> Iterator[tuple[tuple[EllipsisType, slice, slice], Tensor]]:
    """Yield for each neighbour, row by row, where it lies in the enlarged features, and its weights."""
    height, width = masks.shape[2:]
    weights = masks.reshape(len(masks), groups, kernel**2, 1, height, width)
    for number in range(kernel**2):
        y, x = number // kernel * scale, number % kernel * scale
        yield (..., slice(y, y + height), slice(x, x + width)), weights[:, :, number]


OPERATORS: Operators = {
    "carafe_forward": carafe_forward,
    "carafe_backward": carafe_backward,
    "carafe_naive_forward": carafe_naive_forward,
    "carafe_naive_backward": carafe_naive_backward,
}
