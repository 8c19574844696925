"""A feature pyramid from the last map of a plain transformer.

Li, Mao, Girshick, He: Exploring Plain Vision Transformer Backbones for Object Detection (ECCV 2022), section 3, "simple
feature pyramid", and appendix A.2. The map of stride 16 is brought to strides 4, 8, 16 and 32 in parallel: by two
2 x 2 deconvolutions with a LayerNorm and GELU between them, by one, as it is, and by a 2 x 2 max pooling. Each is
followed by a 1 x 1 and a 3 x 3 convolution to the same number of channels, each with a LayerNorm.

Differences: a map of another stride (8 or 32) gets as many deconvolutions or as much pooling as it needs. The level of
stride 64, which the paper adds for the proposals, is the business of the detector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


class SimplePyramid(nn.Module):
    """Make maps of several strides from one.

    channels:     of the map.
    stride:       of the map in pixels of the network input; a power of two.
    out_channels: of every level.
    strides:      of the levels, powers of two.

    >>> import torch
    >>> levels = SimplePyramid(64, 16, 32)(torch.zeros(1, 64, 4, 6))
    >>> [tuple(level.shape) for level in levels]
    [(1, 32, 16, 24), (1, 32, 8, 12), (1, 32, 4, 6), (1, 32, 2, 3)]
    """

    def __init__(self, channels: int, stride: int, out_channels: int, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        steps = [round(math.log2(stride / target)) for target in strides]
        self.scales = nn.ModuleList(_scale(channels, step) for step in steps)
        self.layer_blocks = nn.ModuleList(_block(_width(channels, step), out_channels) for step in steps)

    def forward(self, map_: Tensor) -> tuple[Tensor, ...]:
        """Return the levels, (N, out_channels, H / s, W / s) each, of a map (N, C, H / stride, W / stride)."""
        return tuple(block(scale(map_)) for scale, block in zip(self.scales, self.layer_blocks, strict=True))


def _width(channels: int, step: int) -> int:
    return channels >> max(step, 0)


def _scale(channels: int, step: int) -> nn.Module:
    """Return what halves the stride `step` times; a negative number doubles it."""
    if step < 0:
        return nn.MaxPool2d(2**-step)
    layers: list[nn.Module] = []
    for at in range(step):
        if at:
            layers += [_norm(_width(channels, at)), nn.GELU()]
        layers.append(nn.ConvTranspose2d(_width(channels, at), _width(channels, at + 1), 2, 2))
    return nn.Sequential(*layers)


def _block(channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, bias=False),
        _norm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        _norm(out_channels),
    )


def _norm(channels: int) -> Any:
    from timm.layers.norm import LayerNorm2d

    return LayerNorm2d(channels)
