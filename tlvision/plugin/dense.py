"""From class scores to label maps, the same way for every segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlvision.types import Prediction

if TYPE_CHECKING:
    from torch import Tensor


def interpolate(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Return (N, C, H, W) float32 scores at `size` (H, W): bilinear, pixel areas aligned, gradients kept.

    scores: (N, C, h, w) of any floating-point type.

    >>> import torch
    >>> interpolate(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten().tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    from torch.nn import functional

    scores = scores.float()
    if tuple(scores.shape[-2:]) == tuple(size):
        return scores
    return functional.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)


def label_maps(scores: Tensor, size: Sequence[int]) -> list[Prediction]:
    """Return what `Adapter.predict` of a segmenter owes: for each image the best class at each pixel, and no boxes.

    scores: (N, C, h, w), as `HasDenseLogits.dense_logits` gives them. size: height and width of the network input.
    """
    import torch

    return [
        Prediction(
            boxes=scores.new_zeros((0, 4), dtype=torch.float32),
            scores=scores.new_zeros(0, dtype=torch.float32),
            labels=torch.zeros(0, dtype=torch.int64, device=scores.device),
            semantic=label_map,
        )
        for label_map in interpolate(scores, size).argmax(dim=1)
    ]
