"""Choose the predicted objects that count: by the thresholds of the classes, with the scores of the score map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tlvision.evaluation.score_map import ScoreMap
from tlvision.types import ClassMap, ClassThresholds, Prediction


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a model count.

    thresholds: score of the model from which an object of a class counts.
    score_map:  from the scores of the model to those that a user sees; None if they are the same.
    """

    classes: ClassMap
    thresholds: ClassThresholds
    score_map: ScoreMap | None = None

    def select(self, found: Prediction, min_score: float | None = None) -> Prediction:
        """Return the objects of a prediction that count, with the scores of `score_map`.

        found:     of the model, as numpy.
        min_score: 0..1, lowest score in the result; None: the thresholds of the classes decide.
        """
        if min_score is None:
            found = found.above(self.thresholds.of(self.classes.names))
        if self.score_map is not None:
            found = replace(found, scores=self.score_map.of(found.scores).astype(np.float32))
        return found if min_score is None else found.above(min_score)

    def least(self, min_score: float | None = None) -> float:
        """Return a score of the model below which no object of any class can be in what `select` returns."""
        if min_score is None:
            return float(self.thresholds.of(self.classes.names).min(initial=1.0))
        return min_score if self.score_map is None else 0.0

    def counts_from(self, min_score: float | None = None) -> ClassThresholds:
        """Return the lowest score of each class in what `select` returns."""
        if min_score is not None:
            return ClassThresholds(min_score)
        if self.score_map is None:
            return self.thresholds
        names = self.classes.names
        mapped = self.score_map.of(self.thresholds.of(names)).tolist()
        return ClassThresholds(self.thresholds.default, dict(zip(names, mapped, strict=True)))
