"""Cross entropy of label maps: a mean over the labelled pixels of each image, then over the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tlvision.plugin import constants
from tlvision.types import IGNORE_INDEX, InputError, Target


def cross_entropy(logits: Tensor, labels: Tensor, weights: Sequence[float] | None) -> Tensor:
    """Return the loss of a batch, 0-d float32; an image without a labelled pixel has the loss 0.

    logits:  (N, C, H, W) of any floating-point type.
    labels:  (N, H, W) int64, IGNORE_INDEX where nothing is labelled.
    weights: of the C classes; None for 1 each.
    """
    # Half precision cannot count pixels.
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        by_class = constants((1.0,) * logits.shape[1] if weights is None else weights, logits)
        pixels = functional.cross_entropy(logits, labels, weight=by_class, ignore_index=IGNORE_INDEX, reduction="none")
        labelled = labels != IGNORE_INDEX
        total = (by_class[labels.where(labelled, 0)] * labelled).sum(dim=(1, 2))
        return (pixels.sum(dim=(1, 2)) / total.where(total > 0, 1.0)).mean()


def stack_labels(targets: Sequence[Target], arch: str) -> Tensor:
    """Return the label maps of a batch, (N, H, W) int64; InputError if a target has none."""
    maps = [target.semantic for target in targets if target.semantic is not None]
    if len(maps) < len(targets):
        raise InputError(
            f"{arch}: expected a label map for every image, {len(targets) - len(maps)} of {len(targets)} lack it; give "
            "`data` label maps or polygons"
        )
    return torch.stack(maps)
