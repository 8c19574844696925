"""RoIAlign against a slow loop over samples, its gradient against finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmcv.ops import RoIAlign, roi_align
from torch import Tensor

# Image, x0 y0 x1 y1 in pixels of the image; the features are half as large.
# Inside, over two borders, with samples less than a pixel outside, tiny, all outside.
ROIS = [
    [0, 2.2, 1.4, 13.1, 9.7],
    [1, -5.0, 8.3, 6.2, 21.0],
    [0, -1.0, -1.2, 3.0, 3.0],
    [1, 7.0, 7.1, 7.3, 7.4],
    [0, 50.0, 50.0, 60.0, 60.0],
]


def slow_bilinear(image: Tensor, y: float, x: float) -> float:
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    total = 0.0
    for row in {math.floor(y), min(math.floor(y) + 1, height - 1)}:
        for column in {math.floor(x), min(math.floor(x) + 1, width - 1)}:
            total += max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column)) * float(image[row, column])
    return total


def slow_roi_align(  # noqa: PLR0917
    features: Tensor, rois: list[list[float]], size: tuple[int, int], ratio: int, mode: str, aligned: bool
) -> Tensor:
    output = torch.zeros(len(rois), features.shape[1], *size, dtype=torch.float64)
    for k, (batch, *box) in enumerate(rois):
        x0, y0, x1, y1 = (side * 0.5 - 0.5 * aligned for side in box)
        height, width = (y1 - y0, x1 - x0) if aligned else (max(y1 - y0, 1), max(x1 - x0, 1))
        high, wide = height / size[0], width / size[1]
        rows, columns = (ratio, ratio) if ratio else (math.ceil(high), math.ceil(wide))
        for c in range(features.shape[1]):
            for i in range(size[0]):
                for j in range(size[1]):
                    values = [
                        slow_bilinear(
                            features[int(batch), c],
                            y0 + (i + (row + 0.5) / rows) * high,
                            x0 + (j + (column + 0.5) / columns) * wide,
                        )
                        for row in range(rows)
                        for column in range(columns)
                    ]
                    output[k, c, i, j] = max(values) if mode == "max" else sum(values) / len(values)
    return output


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_values_and_gradients(  # noqa: PLR0917
    rng: torch.Generator, device: torch.device, mode: str, ratio: int, aligned: bool, precision: dict[str, Any]
) -> None:
    features = torch.randn(2, 3, 9, 8, dtype=torch.float64, generator=rng)
    expected = slow_roi_align(features, ROIS, (3, 2), ratio, mode, aligned)
    pool = RoIAlign((3, 2), 0.5, ratio, mode, aligned)
    features, rois = features.to(device).requires_grad_(), torch.tensor(ROIS, dtype=torch.float64, device=device)
    torch.testing.assert_close(pool(features, rois).cpu(), expected)
    assert (expected[:4] != 0).any(dim=(1, 2, 3)).all()
    assert torch.autograd.gradcheck(lambda values: pool(values, rois), (features,), nondet_tol=1e-9, **precision)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision(
    rng: torch.Generator, device: torch.device, dtype: torch.dtype, tolerance: float, mode: str
) -> None:
    rois = torch.tensor(ROIS, device=device)
    grads = {}
    values = torch.randn(2, 3, 9, 8, generator=rng).to(device, dtype)
    for kind in (torch.float32, dtype):
        features = values.to(kind).requires_grad_()
        found = roi_align(features, rois, (3, 2), 0.5, 2, mode, True)
        assert found.dtype == kind
        found.sum().backward()
        assert features.grad is not None
        grads[kind] = found.detach().float(), features.grad.float()
    for half, single in zip(grads[dtype], grads[torch.float32], strict=True):
        torch.testing.assert_close(half, single, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_rois(device: torch.device, mode: str) -> None:
    features = torch.ones(1, 2, 4, 4, device=device, requires_grad=True)
    found = roi_align(features, torch.zeros(0, 5, device=device), (7, 7), 1.0, 0, mode, True)
    assert found.shape == (0, 2, 7, 7)
    found.sum().backward()
    assert features.grad is not None
    assert not features.grad.any()


def test_a_gradient_that_is_not_contiguous(device: torch.device) -> None:
    rois = torch.tensor(ROIS[:1], device=device)
    weight = torch.arange(12.0, device=device).view(1, 2, 3, 2)
    grads = []
    for order in ((0, 1, 2, 3), (0, 3, 2, 1)):
        features = torch.ones(1, 2, 9, 8, device=device, requires_grad=True)
        found = roi_align(features, rois, (3, 2), 0.5, 2, "avg", True)
        (found.permute(order) * weight.permute(order).contiguous()).sum().backward()
        grads.append(features.grad)
    torch.testing.assert_close(*grads)
