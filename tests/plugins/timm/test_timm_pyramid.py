"""The simple feature pyramid, compared with plain tensor operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tlvision_timm.pyramid import SimplePyramid


def normed(map_: Tensor, state: dict[str, Tensor], key: str) -> Tensor:
    """Return the map normalised over its channels at each place."""
    mean, variance = map_.mean(1, keepdim=True), map_.var(1, unbiased=False, keepdim=True)
    weight, bias = (state[f"{key}.{name}"][:, None, None] for name in ("weight", "bias"))
    return (map_ - mean) / (variance + 1e-6).sqrt() * weight + bias


def expected_levels(map_: Tensor, state: dict[str, Tensor], factors: list[int]) -> list[Tensor]:
    """Return the levels by the formulas of the paper; factors: how often the stride is halved, -1 for doubled."""
    levels = []
    for at, factor in enumerate(factors):
        x = F.max_pool2d(map_, 2, 2) if factor == -1 else map_
        place = 0
        for step in range(max(factor, 0)):
            if step:
                x, place = F.gelu(normed(x, state, f"scales.{at}.{place}")), place + 2
            x = F.conv_transpose2d(x, *(state[f"scales.{at}.{place}.{name}"] for name in ("weight", "bias")), stride=2)
            place += 1
        block = f"layer_blocks.{at}"
        x = normed(F.conv2d(x, state[f"{block}.0.weight"]), state, f"{block}.1")
        levels.append(normed(F.conv2d(x, state[f"{block}.2.weight"], padding=1), state, f"{block}.3"))
    return levels


@pytest.mark.parametrize(("stride", "factors"), [(16, [2, 1, 0, -1]), (8, [1, 0, -1]), (32, [3, 2, 1, 0])])
def test_levels_follow_the_paper(stride: int, factors: list[int]) -> None:
    torch.manual_seed(0)
    strides = [round(stride / 2**factor) for factor in factors]
    pyramid = SimplePyramid(16, stride, 8, strides).double()
    for parameter in pyramid.parameters():  # norms begin with 1 and 0
        torch.nn.init.normal_(parameter)
    map_ = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    found = pyramid(map_)
    assert [tuple(level.shape) for level in found] == [(2, 8, 4 * stride // s, 6 * stride // s) for s in strides]
    for level, other in zip(found, expected_levels(map_, dict(pyramid.state_dict()), factors), strict=True):
        torch.testing.assert_close(level, other)


def test_channels_fall_by_half_with_each_deconvolution() -> None:
    widths = [block[0].in_channels for block in SimplePyramid(64, 16, 8).layer_blocks]  # type: ignore[index, union-attr]
    assert widths == [16, 32, 64, 64]
