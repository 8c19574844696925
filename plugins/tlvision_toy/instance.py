"""A tiny instance segmenter: the detector, and a dense mask for each class of which every box cuts out its object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tlvision.types import InputError, Target
from tlvision_toy.backbone import Backbone
from tlvision_toy.detector import Dense, Head, Pyramid, detect
from tlvision_toy.segmenter import WIDTH, Decoder


class TinyInstanceSegmenter(nn.Module):
    """The whole model; `forward` is the same in train and eval mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Pyramid()
        self.decoder = Decoder()
        self.head = Head(classes)
        self.mask = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, images: Tensor) -> tuple[Dense, Tensor]:
        """(N, 3, H, W) images, H and W multiples of 32, to dense predictions and (N, classes, H, W) mask logits."""
        stages = self.backbone(images)
        logits = self.mask(self.decoder(stages)).float()
        masks = functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return detect(stages, self.neck, self.head), masks


def mask_losses(logits: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Return {"loss_mask"}: binary cross entropy, averaged over the pixels, summed over the classes, averaged over N.

    logits:  (N, classes, H, W) float32.
    targets: N targets with masks of H x W. What a class has to cover is where any object of it is.

    Raises InputError if a target with objects has no masks.
    """
    wanted = torch.zeros_like(logits)
    for index, target in enumerate(targets):
        if target.masks is None:
            if len(target):
                raise InputError(
                    "toy-instance: expected a mask for every object, and the targets have none; give `data` polygons"
                )
            continue
        for label, mask in zip(target.labels, target.masks, strict=True):
            wanted[index, label] = torch.maximum(wanted[index, label], mask.to(wanted))
    pixels = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return {"loss_mask": pixels.mean(dim=(2, 3)).sum(dim=1).mean()}


def cut_masks(logits: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Return (K, H, W) uint8 of 0 and 1: where the mask of its class is likely, inside its box.

    logits: (classes, H, W) of one image.
    boxes, labels: (K, 4) in input pixels and (K,), as `tlvision_toy.detector.select` finds them.
    """
    height, width = logits.shape[1:]
    x = torch.arange(width, device=logits.device) + 0.5
    y = torch.arange(height, device=logits.device) + 0.5
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    inside = ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None, :]
    return (inside & (logits > 0)[labels]).to(torch.uint8)
