"""Multi-scale deformable attention, against a loop over queries, heads, levels and points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.autograd import gradcheck

SHAPES = ((4, 5), (2, 3))


def inputs(device: torch.device) -> tuple[torch.Tensor, ...]:
    keys = sum(height * width for height, width in SHAPES)
    value = torch.randn(2, keys, 2, 3, dtype=torch.float64, device=device)
    shapes = torch.tensor(SHAPES, device=device)
    starts = torch.tensor([0, SHAPES[0][0] * SHAPES[0][1]], device=device)
    places = torch.rand(2, 3, 2, 2, 4, 2, dtype=torch.float64, device=device) * 1.2 - 0.1
    weights = torch.rand(2, 3, 2, 2, 4, dtype=torch.float64, device=device)
    return value, shapes, starts, places, weights


def sample(level: np.ndarray, y: float, x: float) -> np.ndarray:
    """One bilinear sample of (H, W, C); outside is 0."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = np.zeros(level.shape[2])
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < level.shape[0] and 0 <= column < level.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * level[row, column]
    return total


def test_it_is_the_formula(device: torch.device) -> None:
    value, shapes, starts, places, weights = inputs(device)
    found = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64).cpu().numpy()
    values, points, shares = (each.cpu().numpy() for each in (value, places, weights))
    expected = np.zeros((2, 3, 2, 3))
    for image, query, head in np.ndindex(2, 3, 2):
        for level, (height, width) in enumerate(SHAPES):
            first = int(starts[level])
            maps = values[image, first : first + height * width, head].reshape(height, width, 3)
            for point in range(4):
                x, y = points[image, query, head, level, point]
                share = shares[image, query, head, level, point]
                expected[image, query, head] += share * sample(maps, y * height - 0.5, x * width - 0.5)
    assert np.allclose(found, expected.reshape(2, 3, 6), atol=1e-9)


def test_gradients(device: torch.device) -> None:
    value, shapes, starts, places, weights = inputs(device)
    leaves = [value.requires_grad_(), places.requires_grad_(), weights.requires_grad_()]
    assert gradcheck(lambda v, p, w: MultiScaleDeformableAttnFunction.apply(v, shapes, starts, p, w, 64), leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(device: torch.device, dtype: torch.dtype) -> None:
    value, shapes, starts, places, weights = inputs(device)
    expected = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64)
    low = value.to(dtype).requires_grad_()
    found = MultiScaleDeformableAttnFunction.apply(low, shapes, starts, places.float(), weights.float(), 64)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, atol=0.3)
    found.sum().backward()
    assert low.grad is not None
