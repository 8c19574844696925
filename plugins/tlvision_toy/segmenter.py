"""A tiny encoder-decoder for label maps: the detector's backbone, and a decoder that adds the stages up at stride 4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tlvision.types import IGNORE_INDEX, InputError, Target
from tlvision_toy.backbone import STAGES, Backbone

WIDTH = 48


class Decoder(nn.Module):
    """All stages at the finest resolution, added and smoothed."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleDict({stage: nn.Conv2d(channels, WIDTH, 1) for stage, (channels, _) in STAGES.items()})
        self.smooth = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.GroupNorm(8, WIDTH), nn.ReLU()
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """The four stage outputs to (N, WIDTH, H / 4, W / 4)."""
        size = stages[0].shape[-2:]
        total = torch.zeros((), device=stages[0].device)
        for lateral, stage in zip(self.lateral.values(), stages, strict=True):
            total = total + functional.interpolate(lateral(stage), size=size, mode="bilinear", align_corners=False)
        out: Tensor = self.smooth(total)
        return out


class TinySegmenter(nn.Module):
    """The whole model; `forward` is the same in train and eval mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.decoder = Decoder()
        self.classify = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, classes, H, W) logits."""
        logits = self.classify(self.decoder(self.backbone(images)))
        return functional.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear", align_corners=False)


def segmentation_losses(logits: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Return {"loss_pixel"}: cross entropy, averaged over the known pixels of an image, then over the images.

    Raises InputError if a target has no label map.
    """
    maps = [target.semantic for target in targets if target.semantic is not None]
    if len(maps) < len(targets):
        raise InputError(
            f"tiny_segmenter: expected a label map for every image, {len(targets) - len(maps)} of {len(targets)} lack "
            "it; give `data` label maps or polygons"
        )
    labels = torch.stack(maps)
    pixels = functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none").sum(dim=(1, 2))
    known = (labels != IGNORE_INDEX).sum(dim=(1, 2)).clamp(min=1)
    return {"loss_pixel": (pixels / known).mean()}
