"""PSANet's attention maps against a loop over places and cells of the window."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from mmcv.ops import PSAMask
from torch import Tensor
from torch.autograd import gradcheck

HEIGHT, WIDTH = 3, 4
# Smaller than the image; larger than it, as in mmseg's models; even, whose middle is the cell before.
WINDOWS = [(3, 1), (7, 9), (5, 3), (4, 2)]


def by_hand(window: Tensor, kind: str, size: tuple[int, int]) -> Tensor:
    expected = window.new_zeros(len(window), HEIGHT * WIDTH, HEIGHT, WIDTH)
    for y, x, i, j in product(range(HEIGHT), range(WIDTH), range(size[0]), range(size[1])):
        row, column = y + i - (size[0] - 1) // 2, x + j - (size[1] - 1) // 2
        if 0 <= row < HEIGHT and 0 <= column < WIDTH:
            value = window[:, i * size[1] + j, y, x]
            if kind == "collect":
                expected[:, row * WIDTH + column, y, x] = value
            else:
                expected[:, y * WIDTH + x, row, column] = value
    return expected


@pytest.mark.parametrize("kind", ["collect", "distribute"])
@pytest.mark.parametrize("size", WINDOWS)
def test_psamask(device: torch.device, kind: str, size: tuple[int, int]) -> None:
    window = torch.randn(2, size[0] * size[1], HEIGHT, WIDTH, dtype=torch.float64, device=device)
    layer = PSAMask(kind, size)
    assert torch.equal(layer(window), by_hand(window, kind, size))
    assert gradcheck(layer, window.requires_grad_(), fast_mode=size == (7, 9))
    grad = torch.randn(2, HEIGHT * WIDTH, HEIGHT, WIDTH, dtype=torch.float64, device=device)
    found, expected = (
        torch.autograd.grad(each, window, grad)[0] for each in (layer(window), by_hand(window, kind, size))
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_what_the_window_does_not_reach_is_zero_whatever_lies_beside(device: torch.device, kind: str) -> None:
    window = torch.full((1, 3, HEIGHT, WIDTH), torch.inf, device=device, requires_grad=True)
    found = PSAMask(kind, (3, 1))(window)
    assert set(found.unique().tolist()) == {0.0, torch.inf}
    (grad,) = torch.autograd.grad(found, window, torch.full_like(found, torch.inf))
    assert set(grad.unique().tolist()) == {0.0, torch.inf}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_low_precision(device: torch.device, dtype: torch.dtype, kind: str, only_rounds: Callable[..., None]) -> None:
    only_rounds(PSAMask(kind, (5, 3)), [torch.randn(2, 15, HEIGHT, WIDTH, device=device)], dtype)
