"""Deformable RoI pooling against a loop over bins and samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.ops import DeformRoIPool, DeformRoIPoolPack, ModulatedDeformRoIPoolPack
from torch.autograd import gradcheck

from tlvision_openmmlab.mmcv_ops import deform_roi_pool

# One inside, one over the border, one far over it, and one as large as the first in the other image.
ROIS = [[0, 1.0, 2.0, 14.0, 17.0], [1, -6.0, 3.0, 9.0, 12.0], [1, 10.0, 10.0, 60.0, 14.0], [1, 3.0, 1.0, 16.0, 16.0]]


def features(device: torch.device, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 2, 7, 8, dtype=dtype, device=device)


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
    features: torch.Tensor, size: tuple[int, int], scale: float, ratio: int, moves: torch.Tensor | None = None
) -> torch.Tensor:
    maps = features.detach().cpu().numpy()
    offset = None if moves is None else moves.detach().cpu().numpy()
    result = np.zeros((len(ROIS), maps.shape[1], *size))
    for row, (image, *box) in enumerate(ROIS):
        x0, y0, x1, y1 = (side * scale - 0.5 for side in box)
        width, height = x1 - x0, y1 - y0
        rows, columns = (ratio or math.ceil(side / bins) for side, bins in zip((height, width), size, strict=True))
        for i in range(size[0]):
            for j in range(size[1]):
                move_x, move_y = (
                    (0.1 * offset[row, 0, i, j] * width, 0.1 * offset[row, 1, i, j] * height)
                    if (offset is not None)
                    else (0.0, 0.0)
                )
                values = [
                    sample(
                        maps[int(image)],
                        y0 + move_y + (i + (a + 0.5) / rows) * height / size[0],
                        x0 + move_x + (j + (b + 0.5) / columns) * width / size[1],
                    )
                    for a in range(rows)
                    for b in range(columns)
                ]
                result[row, :, i, j] = np.mean(values, axis=0)
    return torch.from_numpy(result).to(features)


@pytest.mark.parametrize("ratio", [2, 0])
@pytest.mark.parametrize("moved", [True, False])
def test_deform_roi_pool(
    device: torch.device, ratio: int, moved: bool, precision: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, maps = DeformRoIPool((2, 3), 0.5, ratio, gamma=0.1), features(device)
    offset = torch.randn(len(ROIS), 2, 2, 3, dtype=torch.float64, device=device) if moved else None
    leaves = [each.requires_grad_() for each in (maps, offset) if each is not None]
    expected = pooled_by_hand(maps, (2, 3), 0.5, ratio, offset)
    torch.testing.assert_close(layer(maps, rois(device), offset), expected)
    assert gradcheck(lambda x, *o: layer(x, rois(device), *o), leaves, **precision)
    found = torch.autograd.grad(layer(maps, rois(device), offset).square().sum(), leaves)
    monkeypatch.setattr(deform_roi_pool, "_AT_ONCE", 1)  # RoIs one by one
    alone = layer(maps, rois(device), offset)
    torch.testing.assert_close(alone, expected)
    torch.testing.assert_close(torch.autograd.grad(alone.square().sum(), leaves), found)


def test_a_constant_pools_to_itself_and_an_empty_roi_to_nothing(device: torch.device) -> None:
    maps = torch.full((1, 2, 9, 9), 3.0, device=device)
    boxes = torch.tensor([[0, 1, 1, 7, 6], [0, 4, 4, 4, 4], [0, 6, 6, 2, 2.0]], device=device)
    found = DeformRoIPool(2)(maps, boxes)
    torch.testing.assert_close(found, torch.tensor([3.0, 0, 0], device=device).view(3, 1, 1, 1).expand(3, 2, 2, 2))


def test_without_rois(device: torch.device) -> None:
    maps = features(device).requires_grad_()
    offset = torch.zeros(0, 2, 3, 3, dtype=torch.float64, device=device, requires_grad=True)
    found = DeformRoIPool(3)(maps, torch.zeros(0, 5, dtype=torch.float64, device=device), offset)
    assert found.shape == (0, 2, 3, 3)
    found.sum().backward()
    assert not maps.grad.any()


@pytest.mark.parametrize("kind", [DeformRoIPoolPack, ModulatedDeformRoIPoolPack])
def test_packs_begin_without_offsets_and_train(
    device: torch.device, kind: type[DeformRoIPoolPack | ModulatedDeformRoIPoolPack]
) -> None:
    layer = kind(2, 2, deform_fc_channels=8, spatial_scale=0.5, sampling_ratio=2).double().to(device)
    maps = features(device)
    output = layer(maps, rois(device))
    share = 0.5 if kind is ModulatedDeformRoIPoolPack else 1.0  # its mask begins at sigmoid(0)
    torch.testing.assert_close(output, share * pooled_by_hand(maps, (2, 2), 0.5, 2))
    output.square().sum().backward()
    assert layer.offset_fc[-1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(device: torch.device, dtype: torch.dtype, only_rounds: Callable[..., None]) -> None:
    offset = torch.randn(len(ROIS), 2, 2, 2, device=device)
    boxes = rois(device)
    boxes[:, 1:] += 0.3  # RoIs stay in the precision in which they come
    only_rounds(lambda x, o: DeformRoIPool(2, 0.5, 2, gamma=0.125)(x, boxes, o), [features(device), offset], dtype)
