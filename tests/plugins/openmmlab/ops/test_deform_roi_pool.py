"""Deformable RoI pooling against a loop over bins and samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmcv.ops import DeformRoIPool
from torch.autograd import gradcheck

ROIS = [[0, 1.0, 2.0, 20.0, 25.0], [1, -6.0, 3.0, 9.0, 12.0], [1, 10.0, 10.0, 60.0, 14.0]]


def features(device: torch.device, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 3, 9, 11, dtype=dtype, device=device)


def rois(device: torch.device, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(ROIS, dtype=dtype, device=device)


def sample(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """One bilinear sample of (C, H, W), by the published rule for borders."""
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(image))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * image[:, top, left] + across * image[:, top, right]
    lower = (1 - across) * image[:, bottom, left] + across * image[:, bottom, right]
    return (1 - down) * upper + down * lower


def pooled_by_hand(
    maps: np.ndarray, size: int, scale: float, ratio: int, offset: np.ndarray | None = None
) -> np.ndarray:
    result = np.zeros((len(ROIS), maps.shape[1], size, size))
    for row, (image, *box) in enumerate(ROIS):
        x0, y0, x1, y1 = (side * scale - 0.5 for side in box)
        width, height = x1 - x0, y1 - y0
        rows, columns = (ratio or math.ceil(side / size) for side in (height, width))
        for i in range(size):
            for j in range(size):
                move_x, move_y = (
                    (0.1 * offset[row, 0, i, j] * width, 0.1 * offset[row, 1, i, j] * height)
                    if (offset is not None)
                    else (0.0, 0.0)
                )
                values = [
                    sample(
                        maps[int(image)],
                        y0 + move_y + (i + (a + 0.5) / rows) * height / size,
                        x0 + move_x + (j + (b + 0.5) / columns) * width / size,
                    )
                    for a in range(rows)
                    for b in range(columns)
                ]
                result[row, :, i, j] = np.mean(values, axis=0)
    return result


@pytest.mark.parametrize("ratio", [2, 0])
@pytest.mark.parametrize("moved", [True, False])
def test_deform_roi_pool(device: torch.device, ratio: int, moved: bool) -> None:
    layer, maps = DeformRoIPool(3, 0.5, ratio, gamma=0.1), features(device)
    offset = torch.randn(len(ROIS), 2, 3, 3, dtype=torch.float64, device=device) if moved else None
    expected = pooled_by_hand(maps.cpu().numpy(), 3, 0.5, ratio, None if offset is None else offset.cpu().numpy())
    assert np.allclose(layer(maps, rois(device), offset).detach().cpu().numpy(), expected, atol=1e-9)
    inputs = [maps.requires_grad_(), *([offset.requires_grad_()] if offset is not None else [])]
    assert gradcheck(lambda x, *o: layer(x, rois(device), *o), inputs)
