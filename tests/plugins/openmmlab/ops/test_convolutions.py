"""Deformable and masked convolution, CARAFE and PSAMask, against loops written from the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.ops import (
    CARAFENaive,
    DeformConv2d,
    MaskedConv2d,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    PSAMask,
    carafe,
    deform_conv2d,
    modulated_deform_conv2d,
)
from torch.autograd import gradcheck
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops.extension import OPERATORS


def sample(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """One bilinear sample of (C, H, W); outside is 0."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = np.zeros(len(image))
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def deformed_by_hand(  # noqa: PLR0917
    image: np.ndarray,
    offset: np.ndarray,
    weight: np.ndarray,
    mask: np.ndarray,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    parts: int,
) -> np.ndarray:
    """(C, H, W) -> (C_out, H_out, W_out); offset (parts * k * k * 2, …) as y, x; mask (parts * k * k, …)."""
    out_channels, per_group, kernel, _ = weight.shape
    height, width = offset.shape[1:]
    output = np.zeros((out_channels, height, width))
    share = len(image) // parts
    for y in range(height):
        for x in range(width):
            seen = np.zeros((len(image), kernel, kernel))
            for part in range(parts):
                for i in range(kernel):
                    for j in range(kernel):
                        number = (part * kernel + i) * kernel + j
                        at_y = y * stride - padding + i * dilation + offset[2 * number, y, x]
                        at_x = x * stride - padding + j * dilation + offset[2 * number + 1, y, x]
                        some = slice(part * share, (part + 1) * share)
                        seen[some, i, j] = sample(image[some], at_y, at_x) * mask[number, y, x]
            for channel in range(out_channels):
                first = channel // (out_channels // groups) * per_group
                output[channel, y, x] = (weight[channel] * seen[first : first + per_group]).sum()
    return output


SETTINGS = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2)]  # stride, padding, dilation, groups, deformable groups


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups", "parts"), SETTINGS)
def test_deform_conv(  # noqa: PLR0917
    device: torch.device, stride: int, padding: int, dilation: int, groups: int, parts: int
) -> None:
    images = torch.randn(2, 4, 6, 7, dtype=torch.float64, device=device)
    weight = torch.randn(2, 4 // groups, 3, 3, dtype=torch.float64, device=device)
    side = functional.conv2d(images, torch.zeros(1, 4, 3, 3).to(images), None, stride, padding, dilation).shape[2:]
    offset = torch.randn(2, parts * 18, *side, dtype=torch.float64, device=device)
    settings = (stride, padding, dilation, groups, parts)
    found = deform_conv2d(images, offset, weight, *settings)
    ones = np.ones((parts * 9, *side))
    for row in range(2):
        inputs = (each.cpu().numpy() for each in (images[row], offset[row], weight))
        assert np.allclose(found[row].cpu().numpy(), deformed_by_hand(*inputs, ones, *settings), atol=1e-9)
    inputs = [each.requires_grad_() for each in (images, offset, weight)]
    assert gradcheck(lambda *x: deform_conv2d(*x, *settings), inputs)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups", "parts"), SETTINGS)
def test_modulated_deform_conv(  # noqa: PLR0917
    device: torch.device, stride: int, padding: int, dilation: int, groups: int, parts: int
) -> None:
    images = torch.randn(1, 4, 6, 5, dtype=torch.float64, device=device)
    weight = torch.randn(2, 4 // groups, 3, 3, dtype=torch.float64, device=device)
    bias = torch.randn(2, dtype=torch.float64, device=device)
    side = functional.conv2d(images, torch.zeros(1, 4, 3, 3).to(images), None, stride, padding, dilation).shape[2:]
    offset = torch.randn(1, parts * 18, *side, dtype=torch.float64, device=device)
    mask = torch.rand(1, parts * 9, *side, dtype=torch.float64, device=device)
    settings = (stride, padding, dilation, groups, parts)
    inputs = (each.cpu().numpy() for each in (images[0], offset[0], weight, mask[0]))
    expected = deformed_by_hand(*inputs, *settings)
    plain = modulated_deform_conv2d(images, offset, mask, weight, None, *settings)
    assert np.allclose(plain[0].cpu().numpy(), expected, atol=1e-9)
    shifted = modulated_deform_conv2d(images, offset, mask, weight, bias, *settings)
    assert torch.allclose(shifted - plain, bias.view(1, 2, 1, 1).expand_as(plain))
    leaves = [each.requires_grad_() for each in (images, offset, mask, weight, bias)]
    assert gradcheck(lambda *x: modulated_deform_conv2d(*x, *settings), leaves)


def test_without_offsets_they_are_ordinary_convolutions(device: torch.device) -> None:
    images = torch.randn(2, 4, 8, 8, device=device)
    plain = DeformConv2d(4, 6, 3, stride=2, padding=1, groups=2).to(device)
    offset = torch.zeros(2, 18, 4, 4, device=device)
    expected = functional.conv2d(images, plain.weight, None, 2, 1, 1, 2)
    assert torch.allclose(plain(images, offset), expected, atol=1e-5)
    modulated = ModulatedDeformConv2d(4, 6, 3, padding=1).to(device)
    found = modulated(images, torch.zeros(2, 18, 8, 8, device=device), torch.full((2, 9, 8, 8), 0.5, device=device))
    half = functional.conv2d(images, 0.5 * modulated.weight, modulated.bias, 1, 1)
    assert torch.allclose(found, half, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_deform_conv_in_half_precision(device: torch.device, dtype: torch.dtype) -> None:
    layer = ModulatedDeformConv2dPack(4, 6, 3, padding=1).to(device)
    images = torch.randn(1, 4, 8, 8, device=device)
    expected = layer(images)
    found = layer.to(dtype)(images.to(dtype))
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, atol=0.1)
    found.sum().backward()
    assert layer.weight.grad is not None
    assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")  # how mmcv calls it
def test_masked_conv_is_the_convolution_where_the_mask_is_set(device: torch.device) -> None:
    layer = MaskedConv2d(3, 5, 3, padding=1).to(device)
    layer.eval()
    images = torch.randn(1, 3, 6, 7, device=device)
    mask = (torch.rand(1, 6, 7, device=device) > 0.5).float()
    with torch.no_grad():
        found = layer(images, mask)
        expected = functional.conv2d(images, layer.weight, layer.bias, padding=1) * mask
    assert torch.allclose(found, expected, atol=1e-5)


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


@pytest.mark.parametrize(("kernel", "groups", "scale"), [(3, 1, 2), (5, 2, 2), (3, 2, 1)])
def test_carafe(device: torch.device, kernel: int, groups: int, scale: int) -> None:
    features = torch.randn(2, 4, 4, 5, dtype=torch.float64, device=device)
    masks = torch.rand(2, groups * kernel**2, 4 * scale, 5 * scale, dtype=torch.float64, device=device)
    found = carafe(features, masks, kernel, groups, scale)
    for row in range(2):
        expected = reassembled_by_hand(features[row].cpu().numpy(), masks[row].cpu().numpy(), kernel, groups, scale)
        assert np.allclose(found[row].cpu().numpy(), expected, atol=1e-9)
    assert torch.allclose(CARAFENaive(kernel, groups, scale)(features, masks), found)
    leaves = [features.requires_grad_(), masks.requires_grad_()]
    assert gradcheck(lambda x, m: carafe(x, m, kernel, groups, scale), leaves)
    # mmcv lets its naive form go backwards on a GPU alone, so the operator is asked itself.
    grads = [torch.zeros_like(features), torch.zeros_like(masks)]
    ones = torch.ones_like(found)
    OPERATORS["carafe_naive_backward"](
        ones, features, masks, *grads, kernel_size=kernel, group_size=groups, scale_factor=scale
    )
    expected_grads = torch.autograd.grad(carafe(features, masks, kernel, groups, scale).sum(), leaves)
    assert all(torch.allclose(one, two) for one, two in zip(grads, expected_grads, strict=True))


def test_carafe_with_the_middle_alone_repeats_each_pixel(device: torch.device) -> None:
    features = torch.randn(1, 2, 3, 3, device=device).to(torch.bfloat16)
    masks = torch.zeros(1, 9, 6, 6, device=device, dtype=torch.bfloat16)
    masks[:, 4] = 1
    assert torch.equal(carafe(features, masks, 3, 1, 2), functional.interpolate(features, scale_factor=2))


@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_psamask(device: torch.device, kind: str) -> None:
    height, width, tall, wide = 4, 5, 3, 5
    window = torch.randn(2, tall * wide, height, width, dtype=torch.float64, device=device)
    layer = PSAMask(kind, (tall, wide))
    found = layer(window).cpu().numpy()
    expected = np.zeros((2, height * width, height, width))
    for y in range(height):
        for x in range(width):
            for i in range(tall):
                for j in range(wide):
                    row, column = y + i - tall // 2, x + j - wide // 2
                    if 0 <= row < height and 0 <= column < width:
                        value = window[:, i * wide + j, y, x].cpu().numpy()
                        if kind == "collect":
                            expected[:, row * width + column, y, x] = value
                        else:
                            expected[:, y * width + x, row, column] = value
    assert np.array_equal(found, expected)
    assert gradcheck(layer, [window.requires_grad_()])
