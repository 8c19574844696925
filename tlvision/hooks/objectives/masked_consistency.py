"""Masked image consistency (MIC): the student predicts the teacher's labels from a randomly masked image.

Source: Hoyer, Dai, Wang & Van Gool, "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR
2023, equations 3 to 6: M is 0 with probability `ratio` on squares of side `patch`, L = q * L_model(M * strong(u),
teacher(u)), q the share of confident predictions. Differences: for detectors the pseudo-labels are boxes over a
threshold and the loss is the model family's own, with the normalisation of the hook `mean_teacher`
(`self_training_loss`). Masked pixels are 0 once normalised, as in the source: the mean colour for families that
subtract a mean (`InputSpec.mean`), black for those that do not (YOLO).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.parameters import Share
from tlvision.hooks.pseudo_labels.labels import self_training_loss

if TYPE_CHECKING:
    from torch import Tensor


class MaskedConsistency(ObjectiveHook):
    """Learn the teacher's pseudo-labels from images with masked patches; needs `ema` and `pseudo_labels`.

    weight:    0 or more.
    ratio:     the share of the patches that is masked, 0..1; 0.7 in the source for label maps, 0.5 for boxes.
    patch:     their side in pixels of the network input; 64 in the source for label maps, 32 for boxes.
    threshold: confidence from which a prediction is a pseudo-label here, 0..1; None for that of `pseudo_labels`.
    """

    uses_unlabelled = True
    uses_teacher = True
    uses_pseudo_labels = True

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        patch: Annotated[int, Field(ge=1)] = 32,
        threshold: Share | None = None,
    ) -> None:
        self.weight, self.ratio, self.patch, self.threshold = weight, ratio, patch, threshold

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"masked"}, weight applied; nothing during the burn-in."""
        assert context.pseudo_labels is not None
        assert context.step_data.unlabelled is not None
        ramp = context.pseudo_labels.weight(context)
        if ramp is None:
            return {}
        labels = context.pseudo_labels.targets(context, self.key(), self.threshold)
        strong = context.step_data.unlabelled.strong
        return {"masked": self_training_loss(context, strong * self._visible(strong), labels, self.weight * ramp)}

    def _visible(self, images: Tensor) -> Tensor:
        """Draw (N, 1, H, W) of 0 and 1, constant on each patch, from torch's generator on the CPU."""
        import torch

        height, width = images.shape[-2:]
        rows, columns = -(-height // self.patch), -(-width // self.patch)
        kept = (torch.rand(len(images), 1, rows, columns) >= self.ratio).to(images)
        spread = kept.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)
        return spread[..., :height, :width]
