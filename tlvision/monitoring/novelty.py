"""How far images are from those of a reference, by their features.

Source: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022 (distance to the k-th nearest
neighbour). Differences: features are channel statistics of several layers, standardised, and k is 5, because a
reference has tens to hundreds of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlvision.evaluation.distances import standardise
from tlvision.monitoring.columns import Columns, Numbers

NEIGHBOUR = 5


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector for each image, with all taps and colours, each of which counts alike: (N, D) and (M, D)."""

    reference: Numbers
    log: Numbers


def feature_vectors(reference: Columns, log: Columns) -> Vectors:
    """Return the vectors of both sides; every channel is standardised over both."""
    parts = [standardise(reference.taps[name], log.taps[name]) for name in reference.taps]
    sides = [np.concatenate([part[side] / np.sqrt(part[side].shape[1]) for part in parts], axis=1) for side in (0, 1)]
    return Vectors(sides[0], sides[1])


def novelty(vectors: Vectors) -> Numbers:
    """Return for each image of the log its distance to the 5th nearest reference image, (M,).

    1 is the median of that distance within the reference.
    """
    place = min(NEIGHBOUR, len(vectors.reference) - 1)
    within = np.sort(distances(vectors.reference, vectors.reference), axis=1)[:, place]  # the first is the image itself
    found: Numbers = np.sort(distances(vectors.log, vectors.reference), axis=1)[:, place - 1]
    return found / max(float(np.median(within)), 1e-12)


def distances(first: Numbers, second: Numbers) -> Numbers:
    """Return (N, M) Euclidean distances of (N, D) and (M, D) vectors."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None] - 2 * first @ second.T
    found: Numbers = np.sqrt(np.clip(squares, 0, None))
    return found
