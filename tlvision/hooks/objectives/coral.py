"""Align how the features of two domains vary together.

Source: Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV 2016 workshops, equations 1
to 3: |C_s - C_t|^2_F, C the covariances (divided by n - 1) of the features. Differences: it is divided by
|C_s|^2_F + |C_t|^2_F instead of 4 d^2, and so lies in 0..1 whatever the scale and the number of the features. The
paper's grows with the fourth power of the scale: with one weight it was 10 in one model of ours and below 0.001 in
another. The vectors are cells of the maps of convolutions, on an even grid, because a batch of whole images has fewer
vectors than features; several taps are averaged; and both domains pass through the model as evaluation will
(`tlvision.hooks.side_pass`), not with batch statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.features.taps import choose_taps
from tlvision.hooks.features.vectors import both_domains

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter


class Coral(ObjectiveHook):
    """Add weight * the squared distance between the covariances of labelled and unlabelled features.

    taps:      names of taps, "coarsest", "finest", "stride 16" or "all".
    weight:    of the loss.
    positions: largest number of cells of each map that are compared, on an even grid; 0 compares the means of the maps.
    """

    uses_unlabelled = True

    def __init__(
        self,
        *,
        taps: Sequence[str] = ("coarsest",),
        weight: Annotated[float, Field(ge=0)] = 1.0,
        positions: Annotated[int, Field(ge=0)] = 64,
    ) -> None:
        self.words, self.weight, self.positions = tuple(taps), weight, positions

    def prepare(self, adapter: Adapter) -> None:
        """Choose the taps."""
        self.taps = tuple(tap.name for tap in choose_taps(adapter, self.words, self.key()))

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"distance"}, weight applied."""
        import torch

        if not self.weight:
            return {"distance": next(iter(context.step_data.features.values())).new_zeros(())}
        pairs = both_domains(context, self.taps, self.positions, self.key())
        return {"distance": self.weight * torch.stack([coral_distance(*pair) for pair in pairs.values()]).mean()}


def coral_distance(left: Tensor, right: Tensor) -> Tensor:
    """Return the loss between (n, d) and (m, d) vectors, n and m at least 2: 0-d float32, 0..1.

    0 is for equal covariances, 1 for features that vary in one of the domains only where they do not in the other.

    >>> import torch
    >>> tall, wide = torch.tensor([[0.0, 1.0], [0.0, 3.0]]), torch.tensor([[2.0, 0.0], [4.0, 0.0]])
    >>> coral_distance(tall, wide).item(), coral_distance(tall, 2 + tall).item()
    (1.0, 0.0)
    """
    import torch

    with torch.autocast(left.device.type, enabled=False):
        one, other = _covariance(left.float()), _covariance(right.float())
        size = one.square().sum() + other.square().sum()
        return (one - other).square().sum() / size.clamp(min=torch.finfo(torch.float32).tiny)


def _covariance(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(dim=0)
    return centred.T @ centred / (len(vectors) - 1)
