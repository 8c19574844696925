"""The attention maps of PSANet: a map over a window around each place becomes one over the whole image.

Source: Zhao et al., "PSANet: point-wise spatial attention network", ECCV 2018, section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tlvision_openmmlab.mmcv_ops.kernels import Operators

_COLLECT = 0


def psamask_forward(
    window: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the maps over the image into `output`, (N, H * W, H, W); positions outside of the window stay 0.

    window:   (N, h_mask * w_mask, H, W), for each place the values of its window, row by row.
    psa_type: 0 to collect: [:, other, place], 1 to distribute: [:, place, other].
    """
    cell, inside = _cells((h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask), window.device)
    whole = window.flatten(2).gather(1, cell.expand(num_, -1, -1)).masked_fill_(~inside, 0)  # (N, other, place)
    output.copy_((whole if psa_type == _COLLECT else whole.mT).reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the gradient of the window into `grad_input`, (N, h_mask * w_mask, H, W)."""
    cell, inside = _cells((h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask), grad_input.device)
    whole = grad_output.flatten(2)
    whole = (whole if psa_type == _COLLECT else whole.mT).masked_fill(~inside, 0)  # (N, other, place)
    grad_input.view(num_, h_mask * w_mask, -1).zero_().scatter_add_(1, cell.expand(num_, -1, -1), whole)


def _cells(
    size: tuple[int, int], mask: tuple[int, int], half: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return for each other place, seen from each place, its cell in the window, and whether the window reaches it.

    Both are (H * W, H * W), other place first; the cell is 0 where the window does not reach.
    """
    steps = [torch.arange(side, device=device)[:, None] - torch.arange(side, device=device) for side in size]
    y, x = (step + middle for step, middle in zip(steps, half, strict=True))  # (other, place) along one side
    inside = ((y >= 0) & (y < mask[0]))[:, None, :, None] & ((x >= 0) & (x < mask[1]))[:, None]
    cell = (y[:, None, :, None] * mask[1] + x[:, None]).masked_fill_(~inside, 0)
    places = size[0] * size[1]
    return cell.view(places, places), inside.view(places, places)


OPERATORS: Operators = {"psamask_forward": psamask_forward, "psamask_backward": psamask_backward}
