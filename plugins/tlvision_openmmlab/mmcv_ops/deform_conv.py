"""Deformable convolution, plain and modulated, by torchvision's kernel.

Sources: Dai et al., "Deformable convolutional networks", ICCV 2017, equation 2; Zhu et al., "Deformable ConvNets v2",
CVPR 2019, equation 1. Both count offsets as y, x for each point of the kernel, as torchvision does.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import deform_conv2d

from tlvision_openmmlab.mmcv_ops.kernels import Operators, gradients, working

_Pair = tuple[int, int]


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
    output.copy_(_convolve(*values, stride=(dH, dW), padding=(padH, padW), dilation=(dilationH, dilationW)))


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
    kernel = working(weight)

    def convolve(values: Tensor, places: Tensor) -> Tensor:
        return _convolve(values, places, kernel, stride=(dH, dW), padding=(padH, padW), dilation=(dilationH, dilationW))

    found = gradients(convolve, [features, offset], grad_output)
    grad_input.copy_(found[0])
    grad_offset.copy_(found[1])


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
    values, places = working(features), working(offset)

    def convolve(kernel: Tensor) -> Tensor:
        return _convolve(values, places, kernel, stride=(dH, dW), padding=(padH, padW), dilation=(dilationH, dilationW))

    grad_weight.add_(gradients(convolve, [grad_weight], grad_output)[0], alpha=scale)


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
    output.copy_(
        _convolve(
            *values,
            bias=working(bias) if with_bias else None,
            stride=(stride_h, stride_w),
            padding=(pad_h, pad_w),
            dilation=(dilation_h, dilation_w),
        )
    )


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

    def convolve(values: Tensor, places: Tensor, kernel: Tensor, factors: Tensor) -> Tensor:
        return _convolve(
            values,
            places,
            kernel,
            factors,
            stride=(stride_h, stride_w),
            padding=(pad_h, pad_w),
            dilation=(dilation_h, dilation_w),
        )

    found = gradients(convolve, [features, offset, weight, mask], grad_output)
    for target, grad in zip((grad_input, grad_offset, grad_weight, grad_mask), found, strict=True):
        target.copy_(grad)
    if with_bias:
        grad_bias.copy_(grad_output.sum(dim=(0, 2, 3)))


def _convolve(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    stride: _Pair,
    padding: _Pair,
    dilation: _Pair,
) -> Tensor:
    # torchvision reads the number of groups from the shapes.
    found: Tensor = deform_conv2d(features, offset, weight, bias, stride, padding, dilation, mask)
    return found


OPERATORS: Operators = {
    "deform_conv_forward": deform_conv_forward,
    "deform_conv_backward_input": deform_conv_backward_input,
    "deform_conv_backward_parameters": deform_conv_backward_parameters,
    "modulated_deform_conv_forward": modulated_deform_conv_forward,
    "modulated_deform_conv_backward": modulated_deform_conv_backward,
}
