"""Scores for every pixel, of the whole input or window by window, and the best class at each original pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from tlvision.data.tiles import window_starts
from tlvision.plugin import HasDenseLogits, ScoreKind, interpolate
from tlvision.plugin.dense import unnormalised
from tlvision.types import Prediction

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

# Classes brought to the original size at a time: memory is bounded by one image, however many classes there are.
_CHUNK = 16


def dense_scores(model: HasDenseLogits, images: Tensor, window: int = 0) -> Tensor:
    """Return (N, C, H, W) float32 scores at the size of `images`.

    images: as in `Adapter.loss`. window: side in pixels of the windows that are scored one by one, each overlapping the
    next by a third; scores are averaged where windows overlap. 0, or a window that is not smaller: all at once.
    """
    height, width = images.shape[-2:]
    tall, wide = min(window or height, height), min(window or width, width)
    if (tall, wide) == (height, width):
        return interpolate(model.dense_logits(images), (height, width))
    total: Tensor | None = None
    times = images.new_zeros((1, 1, height, width))
    for top in window_starts(height, tall):
        for left in window_starts(width, wide):
            part = interpolate(
                model.dense_logits(images[..., top : top + tall, left : left + wide].contiguous()), (tall, wide)
            )
            if total is None:
                total = part.new_zeros((len(images), part.shape[1], height, width))
            total[..., top : top + tall, left : left + wide] += part
            times[..., top : top + tall, left : left + wide] += 1
    assert total is not None
    return total / times


def label_map_of(scores: Tensor, matrix: npt.NDArray[np.float64], size: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return (H, W) int64, the best class at each pixel of the original image.

    scores: (C, h, w) float32 of one network input. matrix: (3, 3), original -> network input. size: H, W.

    The part of the input that shows the image is interpolated to its original size, and only then the best class is
    taken, as mmsegmentation does it: a label map that is enlarged afterwards has coarser edges.
    """
    best = labels = None
    for first, part in at_original_size(scores, matrix, size):
        best, labels = _better(best, labels, part, first)
    assert labels is not None
    found: npt.NDArray[np.int64] = labels.cpu().numpy()
    return found


def confident_label_map(
    scores: Tensor, matrix: npt.NDArray[np.float64], size: Sequence[int], kind: ScoreKind = "logits"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return what `label_map_of` does, and the probability of that class at each pixel, (H, W) float32, 0..1.

    kind: of the scores; the probability is that of `tlvision.plugin.class_probabilities`.
    """
    best = labels = total = None
    for first, part in at_original_size(scores, matrix, size):
        chances = part if kind == "logits" else unnormalised(part, kind)
        best, labels = _better(best, labels, chances, first)
        here = chances.logsumexp(dim=0) if kind == "logits" else chances.sum(dim=0)
        total = here if total is None else torch.logaddexp(total, here) if kind == "logits" else total + here
    assert best is not None
    assert labels is not None
    assert total is not None
    if kind == "logits":
        return labels.cpu().numpy(), (best - total).exp().cpu().numpy()
    confidence = best / total.clamp(min=1) + (1 - total).clamp(min=0) / len(scores)
    return labels.cpu().numpy(), confidence.cpu().numpy()


def at_original_size(
    scores: Tensor, matrix: npt.NDArray[np.float64], size: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Yield some classes' scores (c, H, W) at a time, with the index of the first.

    scores: (C, h, w) at the size of the network input, of one image; matrix, size: as for `label_map_of`.
    """
    height, width = int(size[0]), int(size[1])
    # The image lies at a whole offset and has a whole size; see `tlvision.data.geometry.letterbox`.
    left, top = round(matrix[0, 2]), round(matrix[1, 2])
    right, bottom = left + max(1, round(matrix[0, 0] * width)), top + max(1, round(matrix[1, 1] * height))
    for first in range(0, len(scores), _CHUNK):
        yield first, interpolate(scores[None, first : first + _CHUNK, top:bottom, left:right], (height, width))[0]


def _better(best: Tensor | None, labels: Tensor | None, part: Tensor, first: int) -> tuple[Tensor, Tensor]:
    value, index = part.max(dim=0)
    if best is None or labels is None:
        return value, index
    better = value > best
    return torch.where(better, value, best), torch.where(better, index + first, labels)


def label_map_prediction(scores: Tensor, matrix: npt.NDArray[np.float64], size: Sequence[int]) -> Prediction:
    """Return a prediction with a label map of the original size; arguments as for `label_map_of`."""
    return Prediction.empty(label_map_of(scores, matrix, size))
