"""Choose the images of a log that are most worth a label: uncertain, unlike the reference, and unlike each other.

Sources: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018 (greedy
k-center); Zhdanov, "Diverse Mini-Batch Active Learning", 2019 (diversity weighted by uncertainty). Differences: the
centres to begin with are the reference, because a log has no labelled images; and distances are weighted, not filtered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlvision.monitoring.columns import Numbers
from tlvision.monitoring.novelty import Vectors, distances


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen image.

    row:         in the log. uncertainty: 0..1 (0 if the model gives none).
    distance:    to the nearest image of the reference, or chosen before.
    """

    row: int
    uncertainty: float
    distance: float


def choose(vectors: Vectors, uncertainty: Numbers, count: int) -> list[Choice]:
    """Return at most `count` images, the best first.

    uncertainty: (M,), 0..1; nan counts as 0.

    Each step takes the image with the largest product of its distance to the nearest image of the reference or chosen
    before, and a weight from 1/2 (no image is less uncertain) to 1 (all others are).
    """
    known = np.nan_to_num(uncertainty, nan=0.0)
    below = np.searchsorted(np.sort(known), known, side="left")
    weights = (1 + below / max(len(known) - 1, 1)) / 2
    nearest = distances(vectors.log, vectors.reference).min(axis=1)
    left = np.ones(len(known), bool)
    chosen = []
    for _ in range(min(count, len(known))):
        row = int(np.where(left, weights * nearest, -1.0).argmax())
        chosen.append(Choice(row, float(known[row]), float(nearest[row])))
        left[row] = False
        nearest = np.minimum(nearest, distances(vectors.log, vectors.log[row : row + 1])[:, 0])
    return chosen
