"""Deformable convolution, plain and modulated, against a loop over places, kernel points and channels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from tlvision_openmmlab.mmcv_ops import OPERATORS


class Setting(NamedTuple):
    """As mmcv's functions take it; pairs are rows, columns."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    parts: int = 1  # groups of channels that share offsets


# All pairs uneven somewhere, and the kernel too, so that rows and columns cannot be swapped unseen.
SETTINGS = [
    Setting(),
    Setting(stride=(2, 1), padding=(0, 2), groups=2),
    Setting(padding=(2, 1), dilation=(2, 1), groups=2, parts=2),
    Setting(stride=(1, 2), dilation=(1, 2), parts=4),
]
KERNEL = (2, 3)


def inputs(device: torch.device, setting: Setting, count: int = 2) -> list[Tensor]:
    """Images, offsets, weight, mask and bias in double."""
    images, weight = torch.randn(count, 4, 5, 6), torch.randn(4, 4 // setting.groups, *KERNEL)
    size = functional.conv2d(images, weight, None, *setting[:4]).shape[2:]
    points = setting.parts * KERNEL[0] * KERNEL[1]
    offset, mask = torch.randn(count, 2 * points, *size), torch.rand(count, points, *size)
    return [each.double().to(device) for each in (images, offset, weight, mask, torch.randn(4))]


def sample(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """One bilinear sample of (C, H, W); outside is 0."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = np.zeros(len(image))
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def by_hand(images: Tensor, offset: Tensor, weight: Tensor, mask: Tensor, setting: Setting) -> Tensor:
    """The papers' formula; offsets are y, x for each point of the kernel, the points of each part together."""
    values, moves, kernel, factors = (each.detach().cpu().numpy() for each in (images, offset, weight, mask))
    rows, columns = kernel.shape[2:]
    share, per_group = values.shape[1] // setting.parts, kernel.shape[1]
    output = np.zeros((len(values), len(kernel), *moves.shape[2:]))
    for image, y, x in product(range(len(values)), range(moves.shape[2]), range(moves.shape[3])):
        seen = np.zeros((values.shape[1], rows, columns))
        for part, i, j in product(range(setting.parts), range(rows), range(columns)):
            point = (part * rows + i) * columns + j
            move_y, move_x = moves[image, 2 * point : 2 * point + 2, y, x]
            at_y = y * setting.stride[0] - setting.padding[0] + i * setting.dilation[0] + move_y
            at_x = x * setting.stride[1] - setting.padding[1] + j * setting.dilation[1] + move_x
            some = slice(part * share, (part + 1) * share)
            seen[some, i, j] = sample(values[image, some], at_y, at_x) * factors[image, point, y, x]
        for channel in range(len(kernel)):
            first = channel // (len(kernel) // setting.groups) * per_group
            output[image, channel, y, x] = (kernel[channel] * seen[first : first + per_group]).sum()
    return torch.from_numpy(output).to(images)


@pytest.mark.parametrize("setting", SETTINGS)
def test_deform_conv_is_the_formula(device: torch.device, setting: Setting) -> None:
    images, offset, weight, mask, _ = inputs(device, setting)
    found = deform_conv2d(images, offset, weight, *setting)
    torch.testing.assert_close(found, by_hand(images, offset, weight, torch.ones_like(mask), setting))


@pytest.mark.parametrize("setting", SETTINGS)
def test_modulated_deform_conv_is_the_formula(device: torch.device, setting: Setting) -> None:
    images, offset, weight, mask, bias = inputs(device, setting)
    expected = by_hand(images, offset, weight, mask, setting)
    found = modulated_deform_conv2d(images, offset, mask, weight, None, *setting)
    torch.testing.assert_close(found, expected)
    found = modulated_deform_conv2d(images, offset, mask, weight, bias, *setting)
    torch.testing.assert_close(found, expected + bias[:, None, None])


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradients(device: torch.device, setting: Setting) -> None:
    images, offset, weight, mask, bias = (each.requires_grad_() for each in inputs(device, setting, count=1))
    assert gradcheck(lambda *x: deform_conv2d(*x, *setting), (images, offset, weight), fast_mode=True)
    assert gradcheck(
        lambda *x: modulated_deform_conv2d(*x, *setting), (images, offset, mask, weight, bias), fast_mode=True
    )
    assert gradcheck(
        lambda *x: modulated_deform_conv2d(*x, None, *setting), (images, offset, mask, weight), fast_mode=True
    )


@pytest.mark.slow
def test_gradient_of_every_entry(device: torch.device) -> None:
    images, offset, weight, mask, bias = (each.requires_grad_() for each in inputs(device, SETTINGS[2], count=1))
    assert gradcheck(lambda o, w: deform_conv2d(images.detach(), o, w, *SETTINGS[2]), (offset, weight))
    modulated = [images.detach(), offset.detach(), mask, weight, bias]
    assert gradcheck(lambda *x: modulated_deform_conv2d(*modulated[:2], *x, *SETTINGS[2]), modulated[2:])


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 1, 1, 1), (2, 1, 1, 2), (1, 2, 2, 4), ((2, 1), (0, 3), (1, 2), 2)]
)
def test_without_offsets_they_are_ordinary_convolutions(
    device: torch.device, stride: int, padding: int, dilation: int, groups: int
) -> None:
    images = torch.randn(2, 4, 9, 8, dtype=torch.float64, device=device)
    settings = stride, padding, dilation, groups
    plain = DeformConv2d(4, 8, (3, 2), *settings).double().to(device)
    expected = functional.conv2d(images, plain.weight, None, *settings)
    offset = images.new_zeros(2, 12, *expected.shape[2:])
    torch.testing.assert_close(plain(images, offset), expected)
    modulated = ModulatedDeformConv2d(4, 8, (3, 2), *settings).double().to(device)
    torch.nn.init.normal_(modulated.bias)
    half = functional.conv2d(images, 0.5 * modulated.weight, modulated.bias, *settings)
    torch.testing.assert_close(modulated(images, offset, torch.full_like(offset[:, ::2], 0.5)), half)


def test_new_packs_are_ordinary_convolutions(device: torch.device) -> None:
    images = torch.randn(2, 4, 7, 6, device=device)
    plain, modulated = (kind(4, 6, 3, padding=1).to(device) for kind in (DeformConv2dPack, ModulatedDeformConv2dPack))
    torch.testing.assert_close(plain(images), functional.conv2d(images, plain.weight, padding=1))
    # Its mask begins at sigmoid(0).
    half = functional.conv2d(images, 0.5 * modulated.weight, modulated.bias, padding=1)
    torch.testing.assert_close(modulated(images), half)
    (plain(images).sum() + modulated(images).sum()).backward()
    grads = [each.grad for layer in (plain, modulated) for each in layer.parameters()]
    assert len(grads) == 7
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_an_offset_of_one_moves_along_the_named_axis(device: torch.device) -> None:
    image = torch.arange(20.0, device=device).view(1, 1, 4, 5)
    weight, offset = torch.ones(1, 1, 1, 1, device=device), torch.zeros(1, 2, 4, 5, device=device)
    offset[:, 0] = 1  # y
    expected = functional.pad(image[:, :, 1:], (0, 0, 0, 1))
    assert torch.equal(deform_conv2d(image, offset, weight), expected)


@pytest.mark.parametrize("step", [1, 2, 32])
def test_the_step_changes_nothing(device: torch.device, step: int) -> None:
    images, offset, weight, *_ = (each.requires_grad_() for each in inputs(device, SETTINGS[1], count=4))
    found = deform_conv2d(images, offset, weight, *SETTINGS[1], False, step)
    one_by_one = torch.cat(
        [deform_conv2d(images[row : row + 1], offset[row : row + 1], weight, *SETTINGS[1]) for row in range(4)]
    )
    torch.testing.assert_close(found, one_by_one)
    leaves = images, offset, weight
    grads = (torch.autograd.grad(each.square().sum(), leaves) for each in (found, one_by_one))
    torch.testing.assert_close(*grads)


def test_channels_last_changes_nothing(device: torch.device) -> None:
    images, offset, weight, mask, _ = (each.requires_grad_() for each in inputs(device, SETTINGS[2]))
    leaves = images, offset, mask, weight
    last = [each.to(memory_format=torch.channels_last) for each in leaves]
    outputs = [modulated_deform_conv2d(*each, None, *SETTINGS[2]) for each in (leaves, last)]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(torch.autograd.grad(each.square().sum(), leaves) for each in outputs))


def test_the_gradient_of_the_weight_is_added_times_the_scale(device: torch.device) -> None:
    images, offset, weight, *_ = inputs(device, Setting())
    output = deform_conv2d(images, offset, weight.requires_grad_(), *Setting())
    (expected,) = torch.autograd.grad(output.sum(), weight)
    found, none = torch.ones_like(weight), images.new_empty(0)
    sizes = {"kH": 2, "kW": 3, "dH": 1, "dW": 1, "padH": 1, "padW": 1, "dilationH": 1, "dilationW": 1}
    OPERATORS["deform_conv_backward_parameters"](
        *(images, offset, torch.ones_like(output), found, none, none),
        **sizes,
        group=1,
        deformable_group=1,
        scale=0.5,
        im2col_step=1,
    )
    torch.testing.assert_close(found, 1 + 0.5 * expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(device: torch.device, dtype: torch.dtype, only_rounds: Callable[..., None]) -> None:
    images, offset, weight, mask, bias = inputs(device, SETTINGS[2])
    only_rounds(lambda *x: deform_conv2d(*x, *SETTINGS[2]), [images, offset, weight], dtype)
    only_rounds(lambda *x: modulated_deform_conv2d(*x, *SETTINGS[2]), [images, offset, mask, weight, bias], dtype)


def test_an_offset_that_is_no_number_gives_none_and_does_not_crash(device: torch.device) -> None:
    features = torch.rand(1, 2, 6, 6, device=device, requires_grad=True)
    offset = torch.zeros(1, 18, 6, 6, device=device)
    offset[0, 3, 2, 4] = torch.nan
    offset[0, 5, 0, 0] = torch.inf
    offset.requires_grad_()
    weight = torch.rand(3, 2, 3, 3, device=device, requires_grad=True)
    found = deform_conv2d(features, offset, weight, 1, 1)
    there = torch.ones(6, 6, dtype=torch.bool)
    there[2, 4] = False
    assert (found[0].isnan().cpu() == ~there).all()
    torch.autograd.grad(found.sum(), (features, offset, weight))


def test_offsets_of_a_larger_map_are_read_from_the_start_of_the_memory(device: torch.device) -> None:
    features = torch.rand(2, 4, 5, 6, device=device, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, 4, 3, 3, device=device, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(2, 18, 10, 12, device=device, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 9, 10, 12, device=device, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, device=device, dtype=torch.float64)
    found = modulated_deform_conv2d(features, offset, mask, weight, bias, 1, 1, 1, 1, 1)

    def as_read(values: Tensor) -> Tensor:
        return torch.stack([each.reshape(-1)[: each.shape[0] * 30].reshape(-1, 5, 6) for each in values])

    expected = modulated_deform_conv2d(features, as_read(offset), as_read(mask), weight, bias, 1, 1, 1, 1, 1)
    torch.testing.assert_close(found, expected)
    wanted = (features, offset, mask, weight)
    grads = [torch.autograd.grad(each.square().sum(), wanted) for each in (found, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
