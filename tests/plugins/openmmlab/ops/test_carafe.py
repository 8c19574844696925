"""CARAFE against a loop over places and neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.ops import CARAFENaive, CARAFEPack, carafe
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops import OPERATORS

SETTINGS = [(3, 1, 2), (5, 2, 2), (3, 2, 1), (1, 2, 3)]  # kernel, groups, scale


def inputs(device: torch.device, kernel: int, groups: int, scale: int) -> tuple[Tensor, Tensor]:
    features = torch.randn(2, 4, 3, 4, dtype=torch.float64, device=device)
    masks = torch.randn(2, groups * kernel**2, 3 * scale, 4 * scale, dtype=torch.float64, device=device)
    return features, masks


def reassembled_by_hand(features: np.ndarray, masks: np.ndarray, kernel: int, groups: int, scale: int) -> np.ndarray:
    channels, height, width = features.shape
    output = np.zeros((channels, height * scale, width * scale))
    for channel in range(channels):
        group = channel // (channels // groups)
        for y in range(height * scale):
            for x in range(width * scale):
                for i in range(kernel):
                    for j in range(kernel):
                        row, column = y // scale + i - kernel // 2, x // scale + j - kernel // 2
                        if 0 <= row < height and 0 <= column < width:
                            weight = masks[(group * kernel + i) * kernel + j, y, x]
                            output[channel, y, x] += weight * features[channel, row, column]
    return output


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_is_the_formula(device: torch.device, setting: tuple[int, int, int]) -> None:
    features, masks = inputs(device, *setting)
    each = zip(features.cpu().numpy(), masks.cpu().numpy(), strict=True)
    expected = torch.from_numpy(np.stack([reassembled_by_hand(*pair, *setting) for pair in each])).to(device)
    torch.testing.assert_close(carafe(features, masks, *setting), expected)
    torch.testing.assert_close(CARAFENaive(*setting)(features, masks), expected)


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradients(device: torch.device, setting: tuple[int, int, int], precision: dict[str, Any]) -> None:
    leaves = [each.requires_grad_() for each in inputs(device, *setting)]
    assert gradcheck(lambda x, m: carafe(x, m, *setting), leaves, **(precision or {"fast_mode": setting[0] == 5}))
    # mmcv lets its naive form go backwards on a GPU alone, so the operator is asked itself.
    output = carafe(*leaves, *setting)
    grad = torch.randn_like(output)
    expected = torch.autograd.grad(output, leaves, grad)
    found = [torch.zeros_like(each) for each in leaves]
    sizes = dict(zip(("kernel_size", "group_size", "scale_factor"), setting, strict=True))
    OPERATORS["carafe_naive_backward"](grad, *(each.detach() for each in leaves), *found, **sizes)
    torch.testing.assert_close(tuple(found), expected)


def test_with_one_neighbour_alone_it_repeats_that(device: torch.device) -> None:
    features = torch.randn(1, 2, 3, 4, device=device)
    masks = torch.zeros(1, 9, 6, 8, device=device)
    masks[:, 4] = 1
    assert torch.equal(carafe(features, masks, 3, 1, 2), functional.interpolate(features, scale_factor=2))
    left = functional.pad(features, (1, 0))[..., :-1]
    assert torch.equal(carafe(features, masks.roll(-1, 1), 3, 1, 2), functional.interpolate(left, scale_factor=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(device: torch.device, dtype: torch.dtype, only_rounds: Callable[..., None]) -> None:
    only_rounds(lambda x, m: carafe(x, m, 5, 2, 2), inputs(device, 5, 2, 2), dtype)


def test_autocast_leaves_single_precision_alone(device: torch.device) -> None:
    leaves = [each.float().requires_grad_() for each in inputs(device, 3, 1, 2)]
    plain = carafe(*leaves, 3, 1, 2)
    expected = torch.autograd.grad(plain.sum(), leaves)
    with torch.autocast(device.type, torch.bfloat16):
        found = carafe(*leaves, 3, 1, 2)
        grads = torch.autograd.grad(found.sum(), leaves)
    torch.testing.assert_close((found, *grads), (plain, *expected))


def test_the_pack_upsamples_and_trains(device: torch.device) -> None:
    pack = CARAFEPack(4, 2, compressed_channels=4).to(device)
    output = pack(torch.ones(1, 4, 6, 6, device=device))
    # Its weights sum to 1, so ones stay ones wherever the whole kernel lies inside the image.
    torch.testing.assert_close(output[..., 4:-4, 4:-4], torch.ones(1, 4, 4, 4, device=device))
    output.square().sum().backward()
    assert pack.content_encoder.weight.grad.abs().sum() > 0
