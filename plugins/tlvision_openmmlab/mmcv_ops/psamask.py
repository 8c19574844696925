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
    """Write the maps over the image into `output`, (N, H * W, H, W); what the window does not reach stays 0.

    window:   (N, h_mask * w_mask, H, W), for each place the values of its window, row by row.
    psa_type: 0 to collect: [:, other, place], 1 to distribute: [:, place, other].
    """
    seen, place, other = _pairs((h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask), window.device)
    whole = output.view(num_, h_feature * w_feature, h_feature * w_feature)
    values = window.reshape(num_, h_mask * w_mask, -1)[:, seen, place]
    first, second = (other, place) if psa_type == _COLLECT else (place, other)
    whole[:, first, second] = values


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
    seen, place, other = _pairs((h_feature, w_feature), (h_mask, w_mask), (half_h_mask, half_w_mask), grad_input.device)
    whole = grad_output.reshape(num_, h_feature * w_feature, h_feature * w_feature)
    first, second = (other, place) if psa_type == _COLLECT else (place, other)
    grad_input.view(num_, h_mask * w_mask, -1)[:, seen, place] = whole[:, first, second]


def _pairs(
    size: tuple[int, int], mask: tuple[int, int], half: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for each cell of the window that falls into the image: its number, its place, and the place it sees."""
    index = torch.arange(mask[0] * mask[1], device=device)[:, None]
    place = torch.arange(size[0] * size[1], device=device)[None]
    y = place // size[1] + index // mask[1] - half[0]
    x = place % size[1] + index % mask[1] - half[1]
    inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
    seen, where = inside.nonzero(as_tuple=True)
    return seen, where, (y * size[1] + x)[inside]


OPERATORS: Operators = {"psamask_forward": psamask_forward, "psamask_backward": psamask_backward}
