"""Bring the distributions of features of two domains together: multi-kernel maximum mean discrepancy.

Source: Long, Cao, Wang & Jordan, "Learning Transferable Features with Deep Adaptation Networks", ICML 2015, equations 1
and 2: MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), k = sum of beta_u exp(-|x - y|^2 / gamma_u). The estimate is the
unbiased one of Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, equation 3. The biased one divides the sums
within a domain by n^2 though a vector's kernel with itself pushes nothing: with few vectors what keeps a domain spread
out is then weaker than what pulls the two together, and features shrink even where the domains are the same. The price:
a value near 0 is now and then negative.
Differences: beta_u = 1 / kernels instead of a quadratic programme; gamma_u are multiples of the mean squared
distance between two vectors of the batch, without gradient, instead of the median; the double sum instead of the
linear-time estimate; both domains pass through the model as evaluation will (`tlvision.hooks.side_pass`), not with
batch statistics, which give both mean 0 and variance 1 in every norm; and vectors are cells of the maps of
convolutions, because batches of detectors are small. Cells of one image depend on each other, so x and x' are taken
from different images of a domain; a domain with a single image takes its cells for independent, and the value is then
too low.
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


class Mmd(ObjectiveHook):
    """Add weight * the squared multi-kernel MMD between labelled and unlabelled features, averaged over the taps.

    taps:       names of taps, "coarsest", "finest", "stride 16" or "all".
    weight:     of the loss.
    positions:  largest number of compared cells of each map, on an even grid; 0 compares the means of the maps.
    bandwidths: of the Gaussian kernels, as multiples of the mean squared distance between two vectors, above 0.
    """

    uses_unlabelled = True

    def __init__(
        self,
        *,
        taps: Sequence[str] = ("coarsest",),
        weight: Annotated[float, Field(ge=0)] = 1.0,
        positions: Annotated[int, Field(ge=0)] = 16,
        bandwidths: Annotated[Sequence[Annotated[float, Field(gt=0)]], Field(min_length=1)] = (
            0.25,
            0.5,
            1.0,
            2.0,
            4.0,
        ),
    ) -> None:
        self.words, self.weight, self.positions = tuple(taps), weight, positions
        self.bandwidths = tuple(bandwidths)

    def prepare(self, adapter: Adapter) -> None:
        """Choose the taps."""
        self.taps = tuple(tap.name for tap in choose_taps(adapter, self.words, self.key()))

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"distance"}, weight applied."""
        import torch

        data = context.step_data
        if not self.weight:
            return {"distance": next(iter(data.features.values())).new_zeros(())}
        pairs = both_domains(context, self.taps, self.positions, self.key())
        found = [
            squared_mmd(*pair, self.bandwidths, (len(data.features[tap]), len(data.unlabelled_features[tap])))
            for tap, pair in pairs.items()
        ]
        return {"distance": self.weight * torch.stack(found).mean()}


def squared_mmd(
    left: Tensor, right: Tensor, bandwidths: Sequence[float], images: tuple[int, int] | None = None
) -> Tensor:
    """Return the unbiased estimate of MMD^2 between (n, C) and (m, C) float32 vectors, n and m at least 2: 0-d.

    images: how many images the vectors of each side are from, image by image and of each as many; pairs within a side
    are then of different images, if there are two. None if every vector is independent of all others.
    """
    import torch

    with torch.autocast(left.device.type, enabled=False):  # distances are differences of large numbers
        both = torch.cat([left, right])
        squares = both.square().sum(dim=1)
        distances = (squares[:, None] + squares[None] - 2 * both @ both.T).clamp(min=0)
    distances = distances * (1 - torch.eye(len(both), device=both.device))
    # 1e-12: where all vectors are the same, the kernels are 1 and not 0 / 0.
    mean = (distances.detach().sum() / (len(both) * (len(both) - 1))).clamp(min=1e-12)
    kernels = torch.stack([torch.exp(-distances / (width * mean)) for width in bandwidths]).mean(dim=0)
    n, m = len(left), len(right)
    counts = images or (n, m)
    within = _mean_of_pairs(kernels[:n, :n], counts[0]) + _mean_of_pairs(kernels[n:, n:], counts[1])
    return within - 2 * kernels[:n, n:].mean()


def _mean_of_pairs(kernels: Tensor, images: int) -> Tensor:
    """Return the mean of (n, n) kernels over pairs of vectors of different images, or of different vectors of one."""
    import torch

    each = len(kernels) // images if images > 1 else 1
    place = torch.arange(len(kernels), device=kernels.device) // each
    apart = (place[:, None] != place[None]).to(kernels.dtype)
    return (kernels * apart).sum() / apart.sum()
