"""Vectors out of feature maps, for losses that compare two sets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import TYPE_CHECKING

from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks.base import Context


def feature_vectors(maps: Tensor, positions: int) -> Tensor:
    """Return (N * k, C) float32 vectors of (N, C, H, W) maps, image by image.

    positions: 0 takes the mean of each map, k = 1; else the cells of an even grid with at most so many, k = the largest
               square in it, or all cells where a side has fewer.
    """
    import torch

    if not positions:
        return maps.float().mean(dim=(2, 3))
    side = isqrt(positions)
    # Computed on the device: for a copy from the CPU's memory a GPU would wait.
    rows, columns = (
        (2 * torch.arange(min(side, length), device=maps.device) + 1) * length // (2 * min(side, length))
        for length in maps.shape[2:]
    )
    chosen = maps[:, :, rows][..., columns]  # (N, C, h, w)
    return chosen.float().permute(0, 2, 3, 1).flatten(0, 2)


def both_domains(
    context: Context, taps: Sequence[str], positions: int, hook: str
) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Return `{tap: vectors of labelled images, vectors of unlabelled ones}`, (n, C) and (m, C) float32.

    Raises InputError if a domain has a single vector, which has no spread to compare.
    """
    found = {
        tap: (
            feature_vectors(context.step_data.features[tap], positions),
            feature_vectors(context.step_data.unlabelled_features[tap], positions),
        )
        for tap in taps
    }
    if any(len(vectors) < 2 for pair in found.values() for vectors in pair):
        raise InputError(
            f"hooks: '{hook}' compares spreads, and a batch gives it a single vector; set data.batch.labelled and "
            "data.batch.unlabelled to 2 or more, or positions to 4 or more"
        )
    return found
