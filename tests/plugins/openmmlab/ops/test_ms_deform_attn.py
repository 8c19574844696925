"""Multi-scale deformable attention, against a loop over queries, heads, levels and points."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch
from torch import Tensor
from torch.autograd import gradcheck

SHAPES = ((4, 5), (2, 3), (1, 1))
STARTS = (0, 20, 26)


def levels(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(SHAPES, device=device), torch.tensor(STARTS, device=device)


def inputs(device: torch.device) -> list[Tensor]:
    """Values, places (some outside) and weights in double: 2 images, 3 queries, 2 heads, 3 channels, 4 points."""
    each = torch.randn(2, 27, 2, 3), torch.rand(2, 3, 2, 3, 4, 2) * 1.4 - 0.2, torch.rand(2, 3, 2, 3, 4)
    return [values.double().to(device) for values in each]


def attend(value: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    shapes, starts = levels(value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64)


def sample(level: np.ndarray, y: float, x: float) -> np.ndarray:
    """One bilinear sample of (H, W, C); outside is 0."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = np.zeros(level.shape[2])
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < level.shape[0] and 0 <= column < level.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * level[row, column]
    return total


def test_it_is_the_formula(device: torch.device) -> None:
    given = inputs(device)
    values, points, shares = (each.cpu().numpy() for each in given)
    expected = np.zeros((2, 3, 2, 3))
    for image, query, head in np.ndindex(2, 3, 2):
        for level, ((height, width), first) in enumerate(zip(SHAPES, STARTS, strict=True)):
            maps = values[image, first : first + height * width, head].reshape(height, width, 3)
            for point in range(4):
                x, y = points[image, query, head, level, point]
                share = shares[image, query, head, level, point]
                expected[image, query, head] += share * sample(maps, y * height - 0.5, x * width - 0.5)
    torch.testing.assert_close(attend(*given), torch.from_numpy(expected.reshape(2, 3, 6)).to(device))


def test_gradients(device: torch.device) -> None:
    leaves = [each.requires_grad_() for each in inputs(device)]
    assert gradcheck(attend, leaves)
    found = attend(*leaves)
    grad = torch.randn_like(found)
    plain = multi_scale_deformable_attn_pytorch(leaves[0], levels(device)[0], *leaves[1:])
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad(found, leaves, grad), torch.autograd.grad(plain, leaves, grad))


def test_places_outside_every_level_see_nothing(device: torch.device) -> None:
    value, places, weights = inputs(device)
    assert not attend(value, torch.full_like(places, 2.0), weights).any()


def test_mmcv_s_module_gives_the_same_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU it takes mmcv's own plain form, on a GPU the operator; here once the one and once the other."""
    layer = MultiScaleDeformableAttention(8, num_heads=2, num_levels=3, batch_first=True, dropout=0)
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    torch.nn.init.normal_(layer.attention_weights.weight)
    query, value, reference = torch.randn(2, 5, 8), torch.randn(2, 27, 8), torch.rand(2, 5, 3, 2)
    shapes, starts = levels(torch.device("cpu"))
    operator = Mock(side_effect=lambda value, _, places, weights: attend(value, places, weights))
    results = []
    for form in (multi_scale_deformable_attn_pytorch, operator):
        monkeypatch.setattr("mmcv.ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch", form)
        layer.zero_grad()
        output = layer(query, value=value, reference_points=reference, spatial_shapes=shapes, level_start_index=starts)
        output.square().sum().backward()
        results.append((output, *(each.grad for each in layer.parameters())))
    operator.assert_called_once()
    assert len(results[0]) == 9
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(device: torch.device, dtype: torch.dtype, only_rounds: Callable[..., None]) -> None:
    only_rounds(attend, inputs(device), dtype)


def test_places_in_single_precision_beside_values_in_half(device: torch.device) -> None:
    value, places, weights = inputs(device)
    low = value.half().requires_grad_()
    found = attend(low, places.float(), weights.float())
    found.sum().backward()
    assert found.dtype == low.grad.dtype == torch.float16
    torch.testing.assert_close(found.double(), attend(value, places, weights), rtol=0.01, atol=0.02)
