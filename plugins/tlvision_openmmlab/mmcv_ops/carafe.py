"""CARAFE, content-aware reassembly of features, in plain torch.

Source: Wang et al., "CARAFE: content-aware reassembly of features", ICCV 2019, equation 2.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops.kernels import Operators, gradients, working


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
    output.copy_(_reassemble(working(features), working(masks), kernel_size, group_size, scale_factor))


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
    reassemble = partial(_reassemble, kernel=kernel_size, groups=group_size, scale=scale_factor)
    found = gradients(reassemble, [features, masks], grad_output)
    grad_input.copy_(found[0])
    grad_masks.copy_(found[1])


def _reassemble(features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    count, channels, height, width = features.shape
    near = functional.unfold(features, kernel, padding=kernel // 2)  # (N, C * k^2, H * W)
    near = near.view(count, groups, channels // groups, kernel**2, height, width)
    weights = masks.view(count, groups, kernel**2, height, scale, width, scale)
    # n image, g group, c channel, k neighbour, y x source place, i j place inside the enlarged pixel
    return torch.einsum("ngckyx,ngkyixj->ngcyixj", near, weights).reshape(
        count, channels, height * scale, width * scale
    )


OPERATORS: Operators = {
    "carafe_forward": carafe_forward,
    "carafe_backward": carafe_backward,
    "carafe_naive_forward": carafe_naive_forward,
    "carafe_naive_backward": carafe_naive_backward,
}
