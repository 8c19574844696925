"""Backbones of timm in torchvision's detectors: maps by name, and the simple pyramid in the place of the FPN."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from tlvision_timm.backbone import TimmBackbone
from tlvision_timm.models import timm_model
from tlvision_timm.pyramid import STRIDES, SimplePyramid


class TimmBody(nn.Module):
    """A backbone of timm that gives maps by name, each of which goes through a module of `maps`, for taps.

    name:       timm's.
    min_stride: of the maps in input pixels. A plain transformer gives its last map.
    """

    def __init__(self, name: str, min_stride: int) -> None:
        super().__init__()
        self.is_plain = timm_model(name).is_plain
        strides = timm_model(name).strides
        wanted = [len(strides) - 1] if self.is_plain else [at for at, each in enumerate(strides) if each >= min_stride]
        self.timm = TimmBackbone(name, wanted, "none")
        self.maps = nn.ModuleList(nn.Identity() for _ in wanted)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return `{"0": …, "1": …}`, fine to coarse, of images (N, 3, H, W)."""
        maps = self.timm(images)
        return OrderedDict((str(at), point(map_)) for at, (point, map_) in enumerate(zip(self.maps, maps, strict=True)))


class NamedPyramid(SimplePyramid):
    """The simple pyramid with the inputs and outputs of torchvision's FeaturePyramidNetwork.

    channels, stride: of the last map. width: of every level. strides: of the levels.
    extra: makes the coarser levels.
    """

    def __init__(self, channels: int, stride: int, width: int, strides: list[int], extra: ExtraFPNBlock) -> None:
        super().__init__(channels, stride, width, strides)
        self.extra_blocks = extra

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the levels by name, fine to coarse."""
        levels = list(super().forward(list(maps.values())[-1]))
        found, names = self.extra_blocks(levels, list(maps.values()), [str(at) for at in range(len(levels))])
        return OrderedDict(zip(names, found, strict=True))


def make_pyramid(body: TimmBody, min_stride: int, width: int, extra: ExtraFPNBlock) -> nn.Module:
    """Return what makes the detector's levels: a SimplePyramid for one map of a plain transformer, else an FPN."""
    if body.is_plain:
        strides = [stride for stride in STRIDES if stride >= min_stride]
        return NamedPyramid(body.timm.channels[-1], body.timm.strides[-1], width, strides, extra)
    fpn: nn.Module = FeaturePyramidNetwork(list(body.timm.channels), width, extra_blocks=extra)
    return fpn
