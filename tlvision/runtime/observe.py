"""Statistics of an image and of what the network computes for it, for `tlvision monitor`. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.plugin.export import DenseScores
from tlvision.runtime.dense import image_place
from tlvision.runtime.suppress import Floats
from tlvision.types import Pixels

_STEP = 4
"""Of label maps, every so many pixels in each direction count for confidence and entropy: neighbours are alike."""
_SMALLEST = 1e-7


@dataclass(frozen=True, slots=True)
class Observation:
    """Statistics of one image; of one that is cut into tiles or windows their means.

    taps:       {tap: (2 * C,) float32}, means and standard deviations of channels over places, padding included.
    colours:    (6,) mean and standard deviation of red, green and blue, 0..1, padding left out.
    sharpness:  mean absolute Laplacian of the brightness at the size of the network input, 0..1.
    confidence: mean over pixels of the probability of the best class, 0..1; None for models of objects.
    entropy:    mean over pixels of the entropy of the classes, 0 (sure) to 1; None for models of objects.
    """

    taps: Mapping[str, Floats]
    colours: Floats
    sharpness: float
    confidence: float | None = None
    entropy: float | None = None


def observe(
    image: Pixels,
    matrix: npt.NDArray[np.float64],
    size: tuple[int, int],
    taps: Mapping[str, Floats],
    scores: tuple[Floats, DenseScores] | None,
) -> Observation:
    """Return the statistics of one network input.

    image:  (H, W, 3) uint8 RGB. matrix, size: of the image in it; see `tlvision.data.dataset.Meta`.
    taps:   {tap: (2 * C,)} of the graph.
    scores: (C, H, W) scores of the pixels and how they are read; None for models of objects.
    """
    left, top, right, bottom = image_place(matrix, size)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    means, deviations = cv2.meanStdDev(part)
    colours = (np.concatenate([means, deviations]).ravel() / 255).astype(np.float32)
    edges = cv2.Laplacian(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
    sharpness = min(1.0, float(np.abs(edges).mean()) / 255)
    if scores is None:
        return Observation(taps, colours, sharpness)
    values, kind = scores
    chances = _probabilities(values[:, top:bottom:_STEP, left:right:_STEP].reshape(len(values), -1), kind)
    entropy = -(chances * np.log(np.maximum(chances, _SMALLEST))).sum(axis=0).mean() / np.log(max(len(values), 2))
    return Observation(taps, colours, sharpness, float(chances.max(axis=0).mean()), float(entropy))


def join(parts: Sequence[Observation]) -> Observation:
    """Return the means of the statistics of several parts of one image."""
    if len(parts) == 1:
        return parts[0]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return Observation(
        {name: np.mean([part.taps[name] for part in parts], axis=0) for name in parts[0].taps},
        np.mean([part.colours for part in parts], axis=0, dtype=np.float32),
        float(np.mean([part.sharpness for part in parts])),
        mean([part.confidence for part in parts]),
        mean([part.entropy for part in parts]),
    )


def _probabilities(scores: Floats, decoder: DenseScores) -> Floats:
    """Return (C, P) probabilities of (C, P) scores, as `tlvision.plugin.class_probabilities` does."""
    if decoder.score_kind == "logits":
        powers = np.exp(scores - scores.max(axis=0))
        logits: Floats = powers / powers.sum(axis=0)
        return logits
    single = 1 / (1 + np.exp(-scores)) if decoder.score_kind == "sigmoid" else np.maximum(scores, 0)
    total = single.sum(axis=0)
    found: Floats = single / np.maximum(total, 1) + np.maximum(1 - total, 0) / len(scores)
    return found
