"""Domain discriminators and gradient reversal. Imports torch: import it late."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Literal["cross_entropy", "least_squares"]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * gradients[0], None


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """Return `values`, whose gradient is multiplied by `factor` on the way back; a negative one reverses it."""
    scaled: Tensor = _ScaleGradient.apply(values, factor)
    return scaled


def same_scale(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of two domains, of any shapes, divided by their common root mean square, with its gradient.

    So a discriminator's scores, and what comes back from it, do not depend on how large a model's features are; and
    there is nothing to be won by making them larger.
    """
    mean = (_mean_square(left) + _mean_square(right)) / 2
    scale = mean.clamp(min=torch.finfo(torch.float32).tiny).rsqrt()
    return left * scale, right * scale


def _mean_square(values: Tensor) -> Tensor:
    squares = values.float().square()
    return squares.mean() if squares.numel() else squares.sum()


class MapDiscriminator(nn.Sequential):
    """(N, channels, h, w) to a score for each cell, (N, 1, h, w): high for the unlabelled domain."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 1, 1))


class VectorDiscriminator(nn.Sequential):
    """(K, channels) to a score for each row, (K, 1): high for the unlabelled domain."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1))


def domain_loss(scores: Tensor, domain: float, loss: Loss) -> Tensor:
    """Return the mean loss of domain scores against `domain`, 0.0 labelled or 1.0 unlabelled; 0 if there are none.

    scores: of any shape; logits for "cross_entropy", the domain itself for "least_squares".
    """
    if not scores.numel():
        return scores.sum()
    wanted = torch.full_like(scores, domain)
    if loss == "least_squares":
        return functional.mse_loss(scores, wanted)
    return functional.binary_cross_entropy_with_logits(scores, wanted)


def domain_probability(scores: Tensor, loss: Loss) -> Tensor:
    """Return how likely the unlabelled domain is, as the loss understands scores; their shape."""
    return scores if loss == "least_squares" else scores.sigmoid()
