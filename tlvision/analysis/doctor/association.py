"""Association of features with binary outcomes, with a permutation test that is corrected for all of them together.

Source: the area under the ROC curve is the Mann-Whitney statistic (Hanley and McNeil, 1982); the correction is the
maximum of all statistics under permutations of the rows (Westfall and Young, 1993).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PERMUTATIONS = 500


def association(
    features: Floats, outcomes: npt.NDArray[np.bool_], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the AUC of every outcome by every feature, and its corrected p-value, both (C, F).

    features: (N, F), without nan. outcomes: (N, C); one that all rows or none have gives AUC 0.5 and p 1.

    An AUC of 0.5 is no association, 1 that the feature is always higher with the outcome, 0 always lower. The p-value
    is the share of permutations in which any pair is as strongly associated.

    >>> values = np.arange(20.0)[:, None]
    >>> auc, p = association(values, values >= 10)
    >>> auc.item(), p.item() < 0.01
    (1.0, True)
    """
    ranks = np.stack([_ranks(column) for column in features.T], 1) if features.size else features
    centred = ranks - ranks.mean(0)
    count = outcomes.sum(0)[:, None]
    others = len(outcomes) - count
    spread = np.sqrt(count * others / max(len(outcomes) * (len(outcomes) - 1), 1) * (centred**2).sum(0))
    possible = (count > 0) & (others > 0) & (spread > 0)
    chosen = outcomes.astype(np.float64)

    def strength(rows: Floats) -> Floats:
        found: Floats = np.divide(rows.T @ centred, spread, out=np.zeros(spread.shape), where=possible)
        return found

    observed = strength(chosen)
    generator = np.random.default_rng(seed)
    above = np.ones(observed.shape)
    for _ in range(permutations):
        highest = np.abs(strength(chosen[generator.permutation(len(chosen))])).max(initial=0)
        above += highest >= np.abs(observed) - 1e-9
    auc = 0.5 + np.divide(chosen.T @ centred, count * others, out=np.zeros(spread.shape), where=possible)
    return auc, np.where(possible, above / (permutations + 1), 1.0)


def _ranks(values: Floats) -> Floats:
    """Return the rank of each value from 1, the mean of the ranks for equal ones."""
    _, index, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    found: Floats = (last - (count - 1) / 2)[index.ravel()]
    return found
