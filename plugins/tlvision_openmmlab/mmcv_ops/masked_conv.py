"""Convolution at chosen places only, for a prediction that skips the others; without a gradient, as upstream's.

Source: Wang et al., "Region proposal by guided anchoring", CVPR 2019, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops.kernels import Operators


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the kernel's input at each chosen position into `columns`, (C * kernel_h * kernel_w, P).

    features: (1, C, H, W). mask_h_idx, mask_w_idx: (P,) int64, row and column of each output place.
    """
    padded = functional.pad(features[0], (pad_w, pad_w, pad_h, pad_h))  # (C, H + 2 pad_h, W + 2 pad_w)
    rows = mask_h_idx + torch.arange(kernel_h, device=features.device)[:, None, None]  # (kernel_h, 1, P)
    places = mask_w_idx + torch.arange(kernel_w, device=features.device)[:, None]  # (kernel_w, P)
    columns.copy_(padded[:, rows, places].reshape(columns.shape))  # from (C, kernel_h, kernel_w, P)


def masked_col2im_forward(
    columns: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, output: Tensor, height: int, width: int, channels: int
) -> None:
    """Write (channels, P) values to their places in `output`, (1, channels, height, width)."""
    output[0, :, mask_h_idx, mask_w_idx] = columns


OPERATORS: Operators = {"masked_im2col_forward": masked_im2col_forward, "masked_col2im_forward": masked_col2im_forward}
