"""What is hidden in an unlabelled image is to be found from its surroundings: the student sees it in patches.

Source: Hoyer, Dai, Wang & Van Gool, "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR
2023, equations 3 to 6: M is 0 with probability `ratio` on squares of side `patch`, L = q * L_model(M * strong(u),
teacher(u)), q the share of what the teacher is sure of. Different here: for detectors the pseudo-labels are boxes
over a threshold and the loss is the model family's own, as in the hook `mean_teacher`, with whom it shares the
teacher's forward pass and the normalisation (`self_training_loss`). What is hidden is 0 once normalised, as there: the
mean colour for families that subtract a mean (`InputSpec.mean`), black for those that do not (YOLO).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.pseudo_labels.labels import TeacherLabels, ramp_up, self_training_loss
from tlvision.hooks.pseudo_labels.thresholds import Thresholds

if TYPE_CHECKING:
    from torch import Tensor

Share = Annotated[float, Field(ge=0, le=1)]


class MaskedConsistency(ObjectiveHook):
    """Learn the teacher's pseudo-labels from images of which patches are hidden; needs the hook `ema`.

    weight:     0 or more.
    ratio:      the part of the patches that is hidden, 0..1; 0.7 in the source for label maps, 0.5 for boxes.
    patch:      their side in pixels of the network input; 64 in the source for label maps, 32 for boxes.
    threshold:  confidence from which a pseudo-label counts, 0..1.
    thresholds: `{class name: threshold}` for classes that want their own.
    background, at_most, burn_in, ramp, patience: as for `mean_teacher`.
    """

    uses_unlabelled = True
    uses_teacher = True

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        patch: Annotated[int, Field(ge=1)] = 32,
        threshold: Share = 0.8,
        thresholds: dict[str, Share] = {},  # noqa: B006  (a schema; never written to)
        background: Share = 0.0,
        at_most: Annotated[float, Field(gt=0)] | None = None,
        burn_in: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        ramp: Share = 0.1,
        patience: Annotated[int, Field(ge=1)] = 50,
    ) -> None:
        self.weight, self.ratio, self.patch = weight, ratio, patch
        self.burn_in, self.ramp = burn_in, ramp
        known = Thresholds(threshold, thresholds, adaptive=False)
        self.labels = TeacherLabels(self.key(), known, patience, background=background, at_most=at_most)

    def before_fit(self, context: Context) -> None:
        """Fit the thresholds to the classes."""
        self.labels.bind(context)

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"masked"}, weight applied; nothing during the burn-in."""
        if context.progress < self.burn_in:
            return {}
        assert context.step_data.unlabelled is not None
        labels = self.labels.of(context)
        factor = self.weight * ramp_up(context.progress, self.burn_in, self.ramp)
        strong = context.step_data.unlabelled.strong
        return {"masked": self_training_loss(context, strong * self._visible(strong), labels, factor)}

    def _visible(self, images: Tensor) -> Tensor:
        """Draw (N, 1, H, W) of 0 and 1, constant on each patch, from torch's generator on the CPU."""
        import torch

        height, width = images.shape[-2:]
        rows, columns = -(-height // self.patch), -(-width // self.patch)
        kept = (torch.rand(len(images), 1, rows, columns) >= self.ratio).to(images)
        spread = kept.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)
        return spread[..., :height, :width]

    def state_dict(self) -> dict[str, Any]:
        """Return what the thresholds know."""
        return self.labels.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.labels.load_state_dict(state)
