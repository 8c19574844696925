"""Decide how often each training image comes, by the classes in it.

repeat_factor:  an image counts max(1, sqrt(threshold / f)) of its rarest class, f being the share of images that have
                the class (Gupta et al. 2019, "LVIS", section 5). Here the epoch keeps its length.
class_balanced: a class is drawn first, then an image that has it (Shen et al. 2016, "Relay Backpropagation", section
                4.1), as weights: the sum of 1 / (images of the class) over the classes of an image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tlvision.data.settings import SamplingSettings

Weights = npt.NDArray[np.float64]


def image_weights(settings: SamplingSettings, present: npt.NDArray[np.bool_]) -> Weights | None:
    """Return (N,) how often each image comes in an epoch of N images, with the mean 1; None if all come alike.

    present: (N, C) whether an image has an object, or a pixel, of a class. Images of no class keep the weight 1 before
             the mean is taken, so that they become rarer but do not vanish.

    No weight is above `settings.max_repeat` times the smallest.

    >>> rare = np.array([[1, 0]] * 9 + [[0, 1]], bool)
    >>> image_weights(SamplingSettings(kind="class_balanced"), rare).round(2).tolist()[8:]
    [0.56, 5.0]
    """
    images = present.sum(axis=0)
    if settings.kind == "uniform" or not images.any():
        return None
    known = images > 0
    weights = np.ones(len(present))
    some = present.any(axis=1)
    if settings.kind == "repeat_factor":
        repeats = np.sqrt(settings.threshold / np.where(known, images / len(present), 1.0)).clip(min=1.0)
        weights[some] = np.where(present, repeats, 0.0).max(axis=1)[some]
    else:
        shares = np.where(known, 1.0 / np.where(known, images, 1), 0.0)
        summed = (present * shares).sum(axis=1)[some]
        weights[some] = summed / summed.mean()
    weights = weights.clip(max=settings.max_repeat * weights.min())
    if np.allclose(weights, weights[0]):
        return None
    scaled: Weights = weights / weights.mean()
    return scaled


def weighted_order(weights: Weights, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the images of one epoch, (N,) indices in random order, each as often as its weight, rounded up or down.

    Systematic sampling: places at equal distances along the summed weights, from a random start.

    >>> sorted(weighted_order(np.array([0.5, 0.5, 2.0]), np.random.default_rng(0)).tolist())[1:]
    [2, 2]
    """
    places = np.arange(len(weights)) + rng.random()
    ends = weights.cumsum() * (len(weights) / weights.sum())
    ends[-1] = len(weights)  # not below the last place by rounding
    chosen = np.searchsorted(ends, places, side="right")
    return rng.permutation(chosen)


def sampling_note(settings: SamplingSettings, weights: Weights | None) -> str:
    """Return a sentence on how often images come."""
    if weights is None:
        why = "all images have equal weights"
        if settings.kind == "repeat_factor":
            why = f"no class is in fewer than {settings.threshold:.0%} of the images; raise data.sampling.threshold"
        return f"data.sampling: {settings.kind} changes nothing: {why}"
    often = float(weights.max())
    return (
        f"data.sampling: {settings.kind}: in an epoch an image comes {weights.min():.2g} to {often:.2g} times, "
        f"{int((weights > 1).sum())} of {len(weights)} images more often than once"
    )
