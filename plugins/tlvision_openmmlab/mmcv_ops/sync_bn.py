"""Batch normalisation over several processes, in plain torch; mmcv does the exchange between them.

Source: Ioffe and Szegedy, "Batch normalization", ICML 2015, algorithm 1.
"""

from __future__ import annotations

from torch import Tensor

from tlvision_openmmlab.mmcv_ops.kernels import Operators

_OVER = (0, 2)


def sync_bn_forward_mean(features: Tensor, mean: Tensor) -> None:
    """Write the mean of each channel of `features`, (N, C, P), into `mean`, (C,) float32."""
    mean.copy_(features.to(mean.dtype).mean(_OVER))


def sync_bn_forward_var(features: Tensor, mean: Tensor, var: Tensor) -> None:
    """Write the mean squared distance of each channel from `mean` into `var`, (C,) float32."""
    var.copy_(((features.to(mean.dtype) - mean[:, None]) ** 2).mean(_OVER))


def sync_bn_forward_output(
    features: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: Tensor | float,
    group_size: int,
) -> None:
    """Write the normalised features into `norm` and, scaled and shifted, `output`; move the running statistics.

    features, norm, output: (N, C, P). mean, var: (C,), of all processes. std: (C,), gets sqrt(var + eps).
    group_size: number of processes, each taken to have as many values; running_var is the unbiased variance.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((features.to(mean.dtype) - mean[:, None]) / std[:, None])
    scaled = norm if weight is None else norm * weight[:, None]
    output.copy_(scaled if bias is None else scaled + bias[:, None])
    if running_mean is not None and running_var is not None:
        count = features.shape[0] * features.shape[2] * group_size
        unbiased = var * count / (count - 1) if count > 1 else var
        running_mean.copy_(momentum * mean + (1 - momentum) * running_mean)
        running_var.copy_(momentum * unbiased + (1 - momentum) * running_var)


def sync_bn_backward_param(grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> None:
    """Write the gradients of weight and bias, (C,) each."""
    grad = grad_output.to(norm.dtype)
    grad_weight.copy_((grad * norm).sum(_OVER))
    grad_bias.copy_(grad.sum(_OVER))


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Write the gradient of the features, (N, C, P); grad_weight and grad_bias are the mean over the processes."""
    count = norm.shape[0] * norm.shape[2]
    through_statistics = (grad_weight[:, None] * norm + grad_bias[:, None]) / count
    grad_input.copy_((weight / std)[:, None] * (grad_output.to(norm.dtype) - through_statistics))


OPERATORS: Operators = {
    "sync_bn_forward_mean": sync_bn_forward_mean,
    "sync_bn_forward_var": sync_bn_forward_var,
    "sync_bn_forward_output": sync_bn_forward_output,
    "sync_bn_backward_param": sync_bn_backward_param,
    "sync_bn_backward_data": sync_bn_backward_data,
}
