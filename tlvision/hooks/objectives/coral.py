"""Align how the features of two domains vary together.

Source: Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV 2016 workshops, equations 1
to 3: |C_s - C_t|^2_F / (4 d^2), C the covariances (divided by n - 1) of d features. Different here: the vectors are
cells of the maps of convolutions, on an even grid, because a batch of whole images has fewer vectors than features;
several taps are averaged. As in the paper the value grows with the fourth power of the features' scale, and shrinks
with d: compare it with the model's own losses before choosing the weight (the paper's end up equal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.feature_vectors import both_domains
from tlvision.hooks.tap_choice import choose_taps

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter


class Coral(ObjectiveHook):
    """Add weight * the squared distance between the covariances of labelled and unlabelled features.

    taps:      what is looked at: names of taps, "coarsest", "finest", "stride 16" or "all".
    weight:    of the loss.
    positions: the most cells of each map that are compared, on an even grid; 0 compares the means of the maps.
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

        pairs = both_domains(context, self.taps, self.positions, self.key())
        return {"distance": self.weight * torch.stack([coral_distance(*pair) for pair in pairs.values()]).mean()}


def coral_distance(left: Tensor, right: Tensor) -> Tensor:
    """Return the loss between (n, d) and (m, d) float32 vectors, n and m at least 2."""
    import torch

    with torch.autocast(left.device.type, enabled=False):
        gap = _covariance(left) - _covariance(right)
    return gap.square().sum() / (4 * left.shape[1] ** 2)


def _covariance(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(dim=0)
    return centred.T @ centred / (len(vectors) - 1)
