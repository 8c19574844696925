"""Convolution at chosen places, against a loop over those."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import MaskedConv2d
from torch import Tensor
from torch.nn import functional

pytestmark = pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")  # how mmcv calls it


def by_hand(image: Tensor, mask: Tensor, layer: MaskedConv2d) -> Tensor:
    pad_y, pad_x = layer.padding
    rows, columns = layer.kernel_size
    padded = functional.pad(image, (pad_x, pad_x, pad_y, pad_y))
    output = image.new_zeros(1, layer.out_channels, *mask.shape[1:])
    for y, x in mask[0].nonzero().tolist():
        seen = padded[0, :, y : y + rows, x : x + columns]
        output[0, :, y, x] = (layer.weight * seen).sum(dim=(1, 2, 3)) + layer.bias
    return output


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1), ((5, 3), (2, 1))])
@torch.no_grad()
def test_masked_conv_is_the_convolution_where_the_mask_is_set(device: torch.device, kernel: int, padding: int) -> None:
    layer = MaskedConv2d(3, 5, kernel, padding=padding).double().to(device)
    image = torch.randn(1, 3, 6, 7, dtype=torch.float64, device=device)
    for chance in (0.0, 0.5, 1.0):
        mask = (torch.rand(1, 6, 7, device=device) < chance).float()
        found = layer(image, mask)
        torch.testing.assert_close(found, by_hand(image, mask, layer))
        torch.testing.assert_close(found, layer(image) * mask)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_low_precision(device: torch.device, dtype: torch.dtype) -> None:
    layer = MaskedConv2d(3, 5, 3, padding=1).to(device, dtype)
    image, mask = torch.randn(1, 3, 6, 7, device=device).to(dtype), torch.ones(1, 6, 7, device=device)
    found = layer(image, mask)
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps  # the product itself is mmcv's, in low precision
    torch.testing.assert_close(found.double(), layer.double()(image.double()), rtol=4 * eps, atol=4 * eps)
