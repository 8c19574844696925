"""D-RISE (Petsiuk et al. 2021): hide random parts of the image, and see which parts the detection needs.

It uses nothing but `Adapter.predict`, so it works on every detector. Differences from the paper:

- A detection is compared by IoU and by the score of its class; an adapter gives no scores of the other classes.
- Heat is the covariance of mask and similarity, not their mean product: it has the same expectation up to a constant,
  and less noise.
- Hidden pixels get the mean colour of the network input instead of black, which is an unusual colour in most data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from tlvision.analysis.saliency.overlap import compare
from tlvision.types import Prediction

if TYPE_CHECKING:
    from tlvision.plugin import Adapter

GRID = 16
"""Cells along each side of a mask."""
KEEP = 0.5
"""Share of the cells that stay visible."""
_BATCH = 8


def d_rise(
    adapter: Adapter,
    image: Tensor,
    objects: Prediction,
    *,
    masks: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Return how much the objects depend on each pixel, (H, W) float32, at least 0.

    image:    (1, 3, H, W) float32, normalised. objects: tensors, boxes in its pixels. masks: number of random masks.
    progress: is called with the number of masks that were predicted since.
    """
    fill = image.mean(dim=(2, 3), keepdim=True)
    height, width = image.shape[2:]
    products, total, similarity = torch.zeros(height, width), torch.zeros(height, width), 0.0
    with torch.no_grad():
        for batch in random_masks(masks, (height, width), seed):
            shown = batch[:, None].to(image.device)
            found = adapter.predict(image * shown + fill * (1 - shown))
            values = torch.tensor([_similarity(objects, each) for each in found])
            products += torch.einsum("n,nhw->hw", values, batch)
            total += batch.sum(dim=0)
            similarity += float(values.sum())
            progress(len(batch))
    covariance = products / masks - total / masks * (similarity / masks)
    return covariance.clamp(min=0)


def random_masks(count: int, size: tuple[int, int], seed: int) -> Iterator[Tensor]:
    """Yield masks (n, H, W) float32 of 0 (hidden) to 1 (shown), in batches: smooth random patterns of `GRID` cells.

    size: H, W. The pattern is one cell larger than the image and starts within its first cell, as in RISE.
    """
    generator = torch.Generator().manual_seed(seed)
    cell = [-(-side // GRID) for side in size]
    large = [(GRID + 1) * side for side in cell]
    for first in range(0, count, _BATCH):
        number = min(_BATCH, count - first)
        cells = (torch.rand(number, 1, GRID + 1, GRID + 1, generator=generator) < KEEP).float()
        patterns = functional.interpolate(cells, size=large, mode="bilinear", align_corners=False)
        tops = torch.randint(0, cell[0] + 1, (number,), generator=generator).tolist()
        lefts = torch.randint(0, cell[1] + 1, (number,), generator=generator).tolist()
        yield torch.stack(
            [
                pattern[0, top : top + size[0], left : left + size[1]]
                for pattern, top, left in zip(patterns, tops, lefts, strict=True)
            ]
        )


def _similarity(objects: Prediction, found: Prediction) -> float:
    """Return the sum over the objects of IoU times score of the best detection of the same class."""
    if not len(found):
        return 0.0
    ious, same = compare(objects, found)
    return float((ious * found.scores * same).amax(dim=1).sum())
