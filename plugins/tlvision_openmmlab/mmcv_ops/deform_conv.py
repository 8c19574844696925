"""Deformable convolution, plain and modulated, by torchvision's kernel.

Sources: Dai et al., "Deformable convolutional networks", ICCV 2017, equation 2; Zhu et al., "Deformable ConvNets v2",
CVPR 2019, equation 1. Both count offsets as y, x for each point of the kernel, as torchvision does.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from tlvision_openmmlab.mmcv_ops.kernels import Operators, working

_Pair = tuple[int, int]


class _Geometry(NamedTuple):
    """Numbers of a convolution along y and x; `groups` of its channels and of its offsets."""

    stride: _Pair
    padding: _Pair
    dilation: _Pair
    groups: _Pair


def deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the convolution into `output`, (N, C_out, H_out, W_out).

    features: (N, C_in, H, W). weight: (C_out, C_in / group, kH, kW). offset: (N, 2 * deformable_group * kH * kW, H_out,
    W_out), in pixels of `features`. columns, ones, im2col_step: of upstream's kernel, not used.
    """
    values = [working(each) for each in (features, offset, weight)]
    geometry = _Geometry((dH, dW), (padH, padW), (dilationH, dilationW), (group, deformable_group))
    output.copy_(_convolve(*values, geometry=geometry))


def deform_conv_backward_input(
    features: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the gradients of features and offsets into `grad_input` and `grad_offset`."""
    geometry = _Geometry((dH, dW), (padH, padW), (dilationH, dilationW), (group, deformable_group))
    found = _convolve_backward(grad_output, features, offset, weight, None, geometry)
    grad_input.copy_(found[0])
    grad_offset.copy_(found[2])


def deform_conv_backward_parameters(
    features: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add `scale` times the gradient of the weight to `grad_weight`."""
    geometry = _Geometry((dH, dW), (padH, padW), (dilationH, dilationW), (group, deformable_group))
    # torchvision's kernel reads of the weight only its shape for this gradient.
    found = _convolve_backward(grad_output, features, offset, grad_weight, None, geometry)
    grad_weight.add_(found[1].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the convolution into `output`, (N, C_out, H_out, W_out).

    features, weight, offset: as for `deform_conv_forward`. mask: (N, deformable_group * kernel_h * kernel_w, H_out,
    W_out), what each sample is multiplied by. bias: (C_out,), used where `with_bias` says so.
    """
    values = [working(each) for each in (features, offset, weight, mask)]
    geometry = _Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), (group, deformable_group))
    output.copy_(_convolve(*values, bias=working(bias) if with_bias else None, geometry=geometry))


def modulated_deform_conv_backward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the gradients of features, offsets, mask, weight and, where there is one, bias."""
    geometry = _Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), (group, deformable_group))
    found = _convolve_backward(grad_output, features, offset, weight, mask, geometry)
    for target, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), found[:4], strict=True):
        target.copy_(grad)
    if with_bias:
        grad_bias.copy_(found[4])


def _convolve(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    geometry: _Geometry,
) -> Tensor:
    size = _output_size(features, weight, geometry)
    offset, mask = _as_read(offset, size), None if mask is None else _as_read(mask, size)
    # torchvision reads the number of groups from the shapes.
    found: Tensor = deform_conv2d(features, _places(offset), weight, bias, *geometry[:3], mask)
    return found.masked_fill(offset.isnan().any(dim=1, keepdim=True), torch.nan)


def _output_size(features: Tensor, weight: Tensor, geometry: _Geometry) -> _Pair:
    stride, padding, dilation, _ = geometry
    height, width = (
        (features.shape[axis + 2] + 2 * padding[axis] - dilation[axis] * (weight.shape[axis + 2] - 1) - 1)
        // stride[axis]
        + 1
        for axis in (0, 1)
    )
    return height, width


def _as_read(values: Tensor, size: _Pair) -> Tensor:
    """Return (N, C, *size) of offsets or masks (N, C, H, W) for a larger map, as mmcv's kernel reads them.

    DyHead hands on the offsets of the finer level. mmcv takes the memory of an image from its start on, with the
    strides of the map that it writes, and so do weights that were trained with it.
    """
    if tuple(values.shape[2:]) == size:
        return values
    count, channels = values.shape[:2]
    flat = values.contiguous().flatten(1)[:, : channels * size[0] * size[1]]
    return flat.reshape(count, channels, *size)


def _places(offset: Tensor) -> Tensor:
    """Return the offsets with 0 for NaN, which is no place: the kernel would read anywhere in memory and crash."""
    return offset.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _convolve_backward(
    grad_output: Tensor,
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    geometry: _Geometry,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of features, weight, offset, mask and bias; those of an absent mask mean nothing."""
    full, size = (offset, mask), _output_size(features, weight, geometry)
    offset, mask = _as_read(offset, size), None if mask is None else _as_read(mask, size)
    inputs = [working(each) for each in (grad_output, features, weight, _places(offset))]
    # The kernel needs some mask and bias if there are none.
    factors, bias = (inputs[3] if mask is None else working(mask)), inputs[2].new_zeros(len(weight))
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = torch.ops.torchvision._deform_conv2d_backward(
        *inputs, factors, bias, *chain.from_iterable(geometry), mask is not None
    )
    grad_features, grad_weight, grad_offset, grad_mask, grad_bias = found
    grad_offset = _as_written(grad_offset, full[0])
    grad_mask = grad_mask if full[1] is None else _as_written(grad_mask, full[1])
    return grad_features, grad_weight, grad_offset, grad_mask, grad_bias


def _as_written(grad: Tensor, like: Tensor) -> Tensor:
    """Return the gradient of the input of `_as_read`, in its shape: zero in the memory that was not read."""
    if grad.shape == like.shape:
        return grad
    whole = grad.new_zeros(like.shape).flatten(1)
    whole[:, : grad[0].numel()] = grad.flatten(1)
    return whole.reshape(like.shape)


OPERATORS: Operators = {
    "deform_conv_forward": deform_conv_forward,
    "deform_conv_backward_input": deform_conv_backward_input,
    "deform_conv_backward_parameters": deform_conv_backward_parameters,
    "modulated_deform_conv_forward": modulated_deform_conv_forward,
    "modulated_deform_conv_backward": modulated_deform_conv_backward,
}
