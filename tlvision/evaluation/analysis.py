"""What an evaluation measures in addition to its headline numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision.evaluation.operating_point import Rule
from tlvision.evaluation.score_map import Method
from tlvision.types import ClassThresholds


@dataclass(frozen=True, slots=True)
class Analysis:
    """Ask for `analysis` in metrics.json; see `tlvision.evaluation.object_analysis` and `label_map_analysis`.

    rule:       how a score threshold for each class is chosen; None for the best F1.
    thresholds: use these, of a run, instead of choosing.
    calibrate:  fit a map of the scores in this way, and judge it; see `tlvision.evaluation.score_map`.
    resamples:  of the images, for `intervals`: the 95 % interval of each metric over all classes; 0 for none.
    """

    rule: Rule | None = None
    thresholds: ClassThresholds | None = None
    calibrate: Method | None = None
    resamples: int = 0
