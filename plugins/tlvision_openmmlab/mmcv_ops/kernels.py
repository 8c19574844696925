"""Helpers of several operators: precision of the computation, gradients of plain torch, bilinear samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Operators = Mapping[str, Callable[..., Any]]
"""Name in `mmcv._ext` -> function."""


def working(tensor: Tensor) -> Tensor:
    """Return `tensor` in the precision to compute in: float32 for half and bfloat16, itself for the others.

    torchvision's kernels lack bfloat16, on a CPU half too; and a coordinate in half is wrong by up to half a pixel
    beyond 1024.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor) -> list[Tensor]:
    """Return the gradient of `function(*inputs)` for each input, by torch's own differentiation of a second forward."""
    with torch.enable_grad():
        leaves = [working(each.detach()).requires_grad_() for each in inputs]
        output = function(*leaves)
        found = torch.autograd.grad(output, leaves, grad_output.to(output.dtype), allow_unused=True)
    return [
        torch.zeros_like(each) if grad is None else grad.to(each.dtype)
        for each, grad in zip(inputs, found, strict=True)
    ]


def bilinear(features: Tensor, batch: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return bilinear samples as RoIAlign takes them, differentiable in the features and in the places.

    features: (N, C, H, W). batch: (K,) int64, the image of each row. y, x: (K, P) places, the centre of the first pixel
    at 0. A place farther than one pixel outside gives 0; one within it gives the border.

    Returns (K, C, P). Source: He et al., "Mask R-CNN", ICCV 2017, section 3; borders as in its published code.
    """
    height, width = features.shape[-2:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.detach().floor().long(), x.detach().floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = y - top, x - left
    # All images side by side, so that no image is copied for each row that samples it.
    flat = features.transpose(0, 1).flatten(1)  # (C, N * H * W)
    start = batch[:, None] * (height * width)

    def at(row: Tensor, column: Tensor) -> Tensor:
        places = start + row * width + column  # (K, P)
        return flat.index_select(1, places.flatten()).view(len(flat), *places.shape).transpose(0, 1)  # (K, C, P)

    weights = ((1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across)
    corners = (at(top, left), at(top, right), at(bottom, left), at(bottom, right))
    total = sum(weight[:, None] * corner for weight, corner in zip(weights, corners, strict=True))
    return total * inside[:, None]
