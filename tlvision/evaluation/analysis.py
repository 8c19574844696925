"""What an evaluation measures in addition to its headline numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision.evaluation.operating_point import Rule
from tlvision.types import ClassThresholds


@dataclass(frozen=True, slots=True)
class Analysis:
    """Ask for `analysis` in metrics.json; see `tlvision.evaluation.object_analysis` and `label_map_analysis`.

    rule:       how a score threshold for each class is chosen; None for the best F1.
    thresholds: use these, of a run, instead of choosing.
    resamples:  of the images, for `intervals`: the 95 % interval of each metric over all classes; 0 for none.
    """

    rule: Rule | None = None
    thresholds: ClassThresholds | None = None
    resamples: int = 0
