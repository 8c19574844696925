"""Minimise the entropy of a segmenter's predictions on unlabelled images.

Source: Vu, Jain, Bucher, Cord & Perez, "ADVENT: Adversarial Entropy Minimization for Domain Adaptation in Semantic
Segmentation", CVPR 2019, equations 2 to 4 (the direct variant, "MinEnt"): E = -1 / log C * sum_c P log P at each pixel,
P the probabilities of the C classes. Differences: the mean over pixels that show an image instead of the sum, as in
the authors' code (there lambda is 0.001); a ramp, because entropy is not informative early in training; and the
scores are those that evaluation will see, with running statistics and without dropout (`tlvision.hooks.side_pass`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tlvision.data.padding import mean_over_images, valid_pixels
from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.parameters import Share
from tlvision.hooks.side_pass import side_pass
from tlvision.plugin import HasDenseLogits, ScoreKind, class_log_probabilities, score_kind
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor


class Entropy(ObjectiveHook):
    """Add weight * the mean entropy, 0..1, of the scores of the weak views of unlabelled images.

    weight: of the loss, once the ramp is at its end.
    start:  the part of the run, 0..1, before which nothing is added.
    ramp:   the part of the run, 0..1, over which the weight then rises to its full value; 0 means no ramp.
    """

    needs = (HasDenseLogits,)
    uses_unlabelled = True

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 0.001,
        start: Share = 0.0,
        ramp: Share = 0.1,
    ) -> None:
        self.weight, self.start, self.ramp = weight, start, ramp

    def before_fit(self, context: Context) -> None:
        """Raise InputError if a single class leaves nothing to be unsure of."""
        if len(context.classes) < 2:
            raise InputError(
                f"hooks: 'entropy' needs two classes to choose between, and the data has '{context.classes.names[0]}' "
                "only. Remove it."
            )

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"unlabelled"}, weight applied; nothing before the start."""
        risen = self.risen(context.progress)
        if not risen:
            return {}
        assert context.step_data.unlabelled is not None
        assert isinstance(context.adapter, HasDenseLogits)
        weak = context.step_data.unlabelled.weak
        if not self.weight:
            return {"unlabelled": weak.new_zeros(())}
        with side_pass(context.adapter, context.step_data.buffers):
            scores = context.adapter.dense_logits(weak)
        value = mean_entropy(scores, score_kind(context.adapter), valid_pixels(context.step_data.unlabelled))
        return {"unlabelled": self.weight * risen * value}

    def risen(self, progress: float) -> float:
        """Return the part of the weight, 0..1, that counts at `progress`, 0..1."""
        if progress < self.start:
            return 0.0
        return min((progress - self.start) / self.ramp, 1.0) if self.ramp else 1.0


def mean_entropy(scores: Tensor, kind: ScoreKind = "logits", valid: Tensor | None = None) -> Tensor:
    """Return the mean over pixels of the entropy of the classes, divided by log C: 0-d float32, 0..1.

    scores: (N, C, h, w), C at least 2. kind: logits or probabilities. valid: (N, H, W) bool, the pixels that show an
    image, or None for all.

    >>> import torch
    >>> sure = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    >>> round(mean_entropy(sure, "probabilities").item(), 4), round(mean_entropy(0 * sure).item(), 4)
    (0.0, 1.0)
    """
    logs = class_log_probabilities(scores, kind)
    return mean_over_images(-(logs.exp() * logs).sum(dim=1), valid) / math.log(scores.shape[1])
