"""What mmcv.ops computes in plain torch itself, and mmdet and mmseg use: it runs beside our operators."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import CornerPool, CrissCrossAttention, point_sample
from torch import Tensor


def slow_corner_pool(values: Tensor, mode: str) -> Tensor:
    output = values.clone()
    height, width = values.shape[2:]
    for y in range(height):
        for x in range(width):
            seen = {
                "top": values[:, :, y:, x],
                "bottom": values[:, :, : y + 1, x],
                "left": values[:, :, y, x:],
                "right": values[:, :, y, : x + 1],
            }[mode]
            output[:, :, y, x] = seen.amax(dim=2)
    return output


@pytest.mark.parametrize("mode", ["top", "bottom", "left", "right"])
def test_corner_pool_is_the_maximum_towards_one_side(rng: torch.Generator, device: torch.device, mode: str) -> None:
    values = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=rng).to(device)
    pool = CornerPool(mode)
    torch.testing.assert_close(pool(values), slow_corner_pool(values, mode))
    assert torch.autograd.gradcheck(pool, (values.requires_grad_(),))


def test_point_sample_takes_the_pixel_at_its_centre(device: torch.device) -> None:
    values = torch.arange(12.0, device=device).view(1, 1, 3, 4)
    points = torch.tensor([[[0.5 / 4, 0.5 / 3], [2.5 / 4, 1.5 / 3], [1 / 4, 0.5 / 3]]], device=device)
    torch.testing.assert_close(point_sample(values, points), torch.tensor([[[0, 6, 0.5]]], device=device))


def test_criss_cross_attention_trains(rng: torch.Generator, device: torch.device) -> None:
    layer = CrissCrossAttention(16).to(device)
    layer(torch.randn(1, 16, 4, 5, generator=rng).to(device)).sum().backward()
    assert layer.gamma.scale.grad is not None
