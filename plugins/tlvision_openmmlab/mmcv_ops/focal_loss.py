"""Focal loss over independent classes (sigmoid) and over exclusive ones (softmax), in plain torch.

Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 5 and appendix B (the gradient).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops.kernels import Operators, working


def sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each logit into `output`, (N, C).

    logits: (N, C). target: (N,) class index; any other number, such as C, stands for none.
    weight: (C,) for the target's class, or empty; rows without a class have weight 1.
    """
    values = working(logits)
    p = values.sigmoid()
    positive = -alpha * (1 - p) ** gamma * functional.logsigmoid(values)
    negative = -(1 - alpha) * p**gamma * functional.logsigmoid(-values)
    output.copy_(_by_class(positive, negative, target) * _of_class(weight, target, values)[:, None])


def sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the gradient of the summed loss into `grad_input`, (N, C)."""
    values = working(logits)
    p = values.sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * functional.logsigmoid(values))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * functional.logsigmoid(-values) - p)
    grad_input.copy_(_by_class(positive, negative, target) * _of_class(weight, target, values)[:, None])


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each row into `output`, (N,).

    softmax: (N, C) probabilities. target: (N,) class index; a negative one gives 0. weight: (C,), or empty.
    """
    p, log = _of_target(working(softmax), target)
    output.copy_(-alpha * (1 - p) ** gamma * log * (target >= 0) * _of_class(weight, target, p))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the gradient of the summed loss for the logits, not the probabilities, into `grad_input`, (N, C).

    buff: (N,), gets the gradient for the logarithm of the target's probability.
    """
    values = working(softmax)
    p, log = _of_target(values, target)
    # (1 - p)^(gamma - 1) log p is taken as (1 - p)^gamma times this, which has a limit at p = 1.
    ratio = torch.where(p < 1, log / (1 - p), -1)
    slope = -alpha * (1 - p) ** gamma * (1 - gamma * p * ratio) * (target >= 0) * _of_class(weight, target, p)
    buff.copy_(slope)
    chosen = target[:, None] == torch.arange(values.shape[1], device=values.device)
    grad_input.copy_(slope[:, None] * (chosen.to(values.dtype) - values))


def _by_class(positive: Tensor, negative: Tensor, target: Tensor) -> Tensor:
    """Return `positive` at each row's class and `negative` elsewhere: (N, C)."""
    return torch.where(target[:, None] == torch.arange(positive.shape[1], device=target.device), positive, negative)


def _of_target(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of each row's class, and its logarithm: (N,) each."""
    p = softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return p, p.clamp(min=torch.finfo(torch.float32).tiny).log()


def _of_class(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """Return the weight of each row's class, 1 if it has none or there are no weights: (N,)."""
    if not weight.numel():
        return like.new_ones(len(target))
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight.to(like.dtype)[target.clamp(0, len(weight) - 1)], 1)


OPERATORS: Operators = {
    "sigmoid_focal_loss_forward": sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": sigmoid_focal_loss_backward,
    "softmax_focal_loss_forward": softmax_focal_loss_forward,
    "softmax_focal_loss_backward": softmax_focal_loss_backward,
}
