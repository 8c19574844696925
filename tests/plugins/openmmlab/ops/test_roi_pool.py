"""RoIPool against a slow loop over pixels, its gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from mmcv.ops import RoIPool, roi_pool
from torch import Tensor

# Inside, over two borders, of one pixel, all outside, turned inside out.
ROIS = [
    [0, 2.2, 1.4, 13.1, 9.7],
    [1, -5.0, 8.3, 6.2, 21.0],
    [1, 7.1, 7.1, 7.1, 7.1],
    [0, 50.0, 50.0, 60.0, 60.0],
    [0, 5.0, 5.0, 3.6, 3.6],
]


def slow_roi_pool(features: Tensor, rois: list[list[float]], size: tuple[int, int], scale: float) -> Tensor:
    channels, height, width = features.shape[1:]
    output = torch.zeros(len(rois), channels, *size, dtype=features.dtype)
    for k, (batch, *box) in enumerate(rois):
        x0, y0, x1, y1 = box[0] * scale, box[1] * scale, (box[2] + 1) * scale, (box[3] + 1) * scale
        if x1 <= x0 or y1 <= y0:
            continue
        high, wide = (y1 - y0) / size[0], (x1 - x0) / size[1]
        for i in range(size[0]):
            for j in range(size[1]):
                rows = range(max(math.floor(y0 + i * high), 0), min(math.ceil(y0 + (i + 1) * high), height))
                columns = range(max(math.floor(x0 + j * wide), 0), min(math.ceil(x0 + (j + 1) * wide), width))
                for c in range(channels):
                    values = [float(features[int(batch), c, y, x]) for y in rows for x in columns]
                    output[k, c, i, j] = max(values, default=0)
    return output


def test_values_and_gradients(rng: torch.Generator, device: torch.device) -> None:
    features = torch.randn(2, 3, 9, 8, dtype=torch.float64, generator=rng)
    expected = slow_roi_pool(features, ROIS, (3, 2), 0.5)
    assert (expected[:3] != 0).any(dim=(1, 2, 3)).all()
    assert (expected[3:] == 0).all()
    pool = RoIPool((3, 2), 0.5)
    features, rois = features.to(device).requires_grad_(), torch.tensor(ROIS, dtype=torch.float64, device=device)
    torch.testing.assert_close(pool(features, rois).cpu(), expected)
    assert torch.autograd.gradcheck(lambda values: pool(values, rois), (features,), nondet_tol=1e-9)


def test_it_does_not_round_the_roi_as_torchvision_does() -> None:
    features = torch.arange(8.0).view(1, 1, 1, 8)
    # From 1.4 to 5.4: the second half is 3.4 to 5.4 and touches the pixels 3, 4 and 5.
    assert roi_pool(features, torch.tensor([[0, 1.4, 0, 4.4, 0]]), (1, 2), 1.0).flatten().tolist() == [3, 5]


def test_the_first_of_equal_maxima_gets_the_gradient(device: torch.device) -> None:
    features = torch.zeros(1, 1, 4, 4, device=device, requires_grad=True)
    roi_pool(features, torch.tensor([[0.0, 0, 0, 3, 3]], device=device), (1, 1), 1.0).sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [1] + [0] * 15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(rng: torch.Generator, device: torch.device, dtype: torch.dtype) -> None:
    values = torch.randn(2, 3, 9, 8, generator=rng).to(dtype)
    features = values.to(device, copy=True).requires_grad_()
    found = roi_pool(features, torch.tensor(ROIS, device=device), (3, 2), 0.5)
    assert found.dtype == dtype
    torch.testing.assert_close(found.detach().cpu(), slow_roi_pool(values, ROIS, (3, 2), 0.5), rtol=0, atol=0)
    found.sum().backward()
    assert features.grad is not None
    # Each bin with a pixel gives its gradient to one place.
    assert features.grad.float().sum().item() == (found != 0).sum().item()


def test_no_rois(device: torch.device) -> None:
    features = torch.ones(1, 2, 4, 4, device=device, requires_grad=True)
    found = roi_pool(features, torch.zeros(0, 5, device=device), (7, 7), 1.0)
    assert found.shape == (0, 2, 7, 7)
    found.sum().backward()
    assert features.grad is not None
    assert not features.grad.any()
