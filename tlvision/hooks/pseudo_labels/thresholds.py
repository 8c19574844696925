"""Confidence thresholds for pseudo-labels, fixed or following how confident the teacher is of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tlvision.hooks.pseudo_labels.processes import sum_over_processes
from tlvision.plugin import constants
from tlvision.types import ClassMap, InputError, Prediction, nearest

if TYPE_CHECKING:
    from torch import Tensor

_KEEP = 0.99
_FLOOR = 0.5
_PRIOR = 5.0
"""Micro-batches that the starting value of a class counts for, however long ago."""


class Thresholds:
    """The confidence from which a prediction is a pseudo-label, one number a class.

    base:      for every class that `per_class` does not name, 0..1.
    per_class: `{class name: threshold}`.
    adaptive:  lower the threshold of classes of which the teacher is less confident, or that it hardly predicts:
               t_c = t * max(1/2, m_c / max m), m_c = (5 * base / 2 + S_c) / (5 + N_c). S_c sums the mean confidence, in
               each micro-batch, of predictions of class c that reach half of t; N_c counts the
               micro-batches with any; both fade by 0.99 each micro-batch. So m_c is the mean confidence of a class that
               is predicted often, and falls to half of the threshold for one that is not.

    Source: Zhang et al., "FlexMatch", NeurIPS 2021, curriculum pseudo labelling: t_c = t * M(n_c / max n), n_c how many
    samples of class c pass the threshold. There as in "FreeMatch" (Wang et al., ICLR 2023, self-adaptive thresholding:
    t_c = t * p_c / max p, p_c the moving average of the probability of class c, 1 / C at first) a class without
    evidence has the lowest threshold. Differences: mean confidence, and the amount of evidence only while there is
    hardly any, because counts of boxes and pixels measure how frequent a class is, not how well the model predicts it;
    never below half of t; M is the identity; and t itself is fixed. Without evidence for any class all have t.

    >>> thresholds = Thresholds(0.8, {}, adaptive=True)
    >>> thresholds.bind(ClassMap(("car", "bus"), (1, 2)), "pseudo_labels")
    >>> thresholds.values()
    [0.8, 0.8]
    """

    def __init__(self, base: float, per_class: Mapping[str, float], *, adaptive: bool) -> None:
        self.base, self.per_class, self.adaptive = base, dict(per_class), adaptive
        self._sums: list[float] = []
        self._counts: list[float] = []

    def bind(self, classes: ClassMap, hook: str) -> None:
        """Fit the thresholds to the classes of a run; InputError if one is named that it does not have."""
        for name in self.per_class:
            if name not in classes.names:
                raise InputError(f"{hook}.thresholds: no class '{name}'.{nearest(name, classes.names)}")
        self._names = classes.names
        if len(self._sums) != len(classes):
            self._sums, self._counts = [0.0] * len(classes), [0.0] * len(classes)

    def values(self, base: float | None = None) -> list[float]:
        """Return the current threshold of each class; `base`, 0..1, replaces that of classes without one of their own.

        >>> thresholds = Thresholds(0.8, {"bus": 0.5}, adaptive=False)
        >>> thresholds.bind(ClassMap(("car", "bus"), (1, 2)), "pseudo_labels")
        >>> thresholds.values(), thresholds.values(0.9)
        ([0.8, 0.5], [0.9, 0.5])
        """
        start = self._start(self.base if base is None else base)
        if not self.adaptive:
            return start
        most = max(self._known)
        return [
            value * max(_FLOOR, known / most) if most else value
            for value, known in zip(start, self._known, strict=True)
        ]

    def _start(self, base: float) -> list[float]:
        return [self.per_class.get(name, base) for name in self._names]

    @property
    def _known(self) -> list[float]:
        """Return the confidence in each class, m_c."""
        start = _PRIOR * _FLOOR * self.base
        return [(start + total) / (_PRIOR + count) for total, count in zip(self._sums, self._counts, strict=True)]

    def learn(self, output: Sequence[Prediction] | Sequence[Tensor]) -> None:
        """Update with the teacher's predictions of one micro-batch; does nothing unless the thresholds adapt."""
        if not self.adaptive:
            return
        sums, counts = _confidence(output, [_FLOOR * start for start in self._start(self.base)])
        for index, (total, count) in enumerate(zip(sums, counts, strict=True)):
            self._sums[index] = _KEEP * self._sums[index] + (total / count if count else 0.0)
            self._counts[index] = _KEEP * self._counts[index] + bool(count)

    def state(self) -> list[list[float]]:
        """Return the state that a resumed run needs."""
        return [list(self._sums), list(self._counts)]

    def load(self, state: Sequence[Sequence[float]]) -> None:
        """Restore what `state` returned."""
        self._sums, self._counts = ([float(value) for value in values] for values in state)


def _confidence(
    output: Sequence[Prediction] | Sequence[Tensor], least: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return for each class the sum and the number of the confidences that reach `least`, of all processes."""
    import torch

    scores, labels = [], []
    for each in output:
        value, index = (each.scores, each.labels) if isinstance(each, Prediction) else each.max(dim=0)
        scores.append(value.flatten().float())
        labels.append(index.flatten())
    value, index = torch.cat(scores), torch.cat(labels)
    used = (value >= constants(least, value)[index]) & (value >= 0)  # below 0 is padding
    both = torch.stack(
        [torch.bincount(index[used], weights, minlength=len(least)) for weights in (value[used], None)]  # (2, C)
    )
    sums, counts = sum_over_processes(both).tolist()
    return sums, counts
