"""Mean teacher: the student learns the confident predictions of its moving average on unlabelled images.

Sources: Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017 (the averaged teacher); Liu et al.,
"Unbiased Teacher", ICLR 2021, equations 3 to 6, Li et al., "Cross-Domain Adaptive Teacher", CVPR 2022, and Kay et
al., "Align and Distill" (ALDI), 2024, for detectors: burn-in on labels, weak view for the teacher, strong one for the
student, hard labels over a threshold; Hinton et al., "Distilling the Knowledge", 2015, for soft ones.

Equation: L = L_labelled + weight * r(p) * q * L_model(strong(u), {y in teacher(weak(u)): score(y) >= t_class}), r the
ramp, q the share of images (detectors) or pixels (label maps) with a label; see `self_training_loss`.
Differences: the loss on pseudo-labels is the model family's own, whole, boxes included, for every family; an image in
which nothing reaches the threshold contributes no loss, while most methods take it for background (`background: 1` of
the hook `pseudo_labels`); padding has no labels; soft distillation of a detector compares its feature maps, because
detectors' scores before suppression have no common form. The teacher is the hook `ema`, whose weights are evaluated
and kept as well; it averages buffers too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tlvision.data.padding import mean_over_images, valid_pixels
from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.features.taps import choose_taps
from tlvision.hooks.parameters import Share
from tlvision.hooks.pseudo_labels.labels import self_training_loss
from tlvision.hooks.pseudo_labels.teacher import TeacherOutput, teacher_predictions
from tlvision.plugin import HasDenseLogits, class_log_probabilities, interpolate, score_kind

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter, Tap


class MeanTeacher(ObjectiveHook):
    """Learn from the teacher's pseudo-labels on unlabelled images; needs `ema` and `pseudo_labels`.

    weight:       0 or more.
    distillation: hard (pseudo-labels), soft (the teacher's probabilities for every pixel, or a detector's feature
                  maps), or both.
    temperature:  of soft distillation of label maps; above 1 softens.
    taps:         of soft distillation of detectors: names, coarsest, finest, "stride 16" or all.
    threshold:    confidence from which a prediction is a pseudo-label here, 0..1; None for that of `pseudo_labels`.
    """

    uses_unlabelled = True
    uses_teacher = True
    uses_pseudo_labels = True

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        distillation: Literal["hard", "soft", "both"] = "hard",
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        taps: list[str] = ["coarsest"],  # noqa: B006  (a schema; never written to)
        threshold: Share | None = None,
    ) -> None:
        self.weight, self.threshold = weight, threshold
        self.distillation, self.temperature, self.selectors = distillation, temperature, list(taps)
        self._seen: tuple[Tap, ...] = ()

    def prepare(self, adapter: Adapter) -> None:
        """Choose the taps of soft distillation, which label maps do without."""
        if self.distillation != "hard" and not isinstance(adapter, HasDenseLogits):
            self._seen = choose_taps(adapter, self.selectors, self.key())

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"hard", "soft"}, those of the distillation, weights applied; nothing during the burn-in."""
        assert context.pseudo_labels is not None
        ramp = context.pseudo_labels.weight(context)
        if ramp is None:
            return {}
        factor = self.weight * ramp
        losses = {}
        if self.distillation != "soft":
            losses["hard"] = self._hard(context, factor)
        if self.distillation != "hard":
            losses["soft"] = factor * self._soft(context) if factor else _nothing(context)
        return losses

    def _hard(self, context: Context, factor: float) -> Tensor:
        assert context.pseudo_labels is not None
        assert context.step_data.unlabelled is not None
        labels = context.pseudo_labels.targets(context, self.key(), self.threshold)
        return self_training_loss(context, context.step_data.unlabelled.strong, labels, factor)

    def _soft(self, context: Context) -> Tensor:
        assert context.step_data.unlabelled is not None
        strong = context.step_data.unlabelled.strong
        if isinstance(context.adapter, HasDenseLogits):
            scores = interpolate(context.adapter.dense_logits(strong), strong.shape[-2:])
            logs = class_log_probabilities(scores, score_kind(context.adapter))
            return _divergence(logs, teacher_predictions(context), self.temperature)
        return self._feature_difference(context, strong)

    def _feature_difference(self, context: Context, strong: Tensor) -> Tensor:
        """Return the mean over taps of |student - teacher|^2 / |teacher|^2, over cells that show an image."""
        import torch

        assert context.teacher is not None
        assert context.step_data.unlabelled is not None
        valid = valid_pixels(context.step_data.unlabelled)
        with torch.no_grad():
            wanted = context.teacher.features(context.step_data.unlabelled.weak)
        seen = context.adapter.features(strong)
        parts = []
        for tap in self._seen:
            target = wanted[tap.name].float()
            difference = mean_over_images((seen[tap.name].float() - target).square().mean(dim=1), valid)
            parts.append(difference / mean_over_images(target.square().mean(dim=1), valid).clamp(min=1e-6))
        return torch.stack(parts).mean()


def _nothing(context: Context) -> Tensor:
    assert context.step_data.unlabelled is not None
    return context.step_data.unlabelled.strong.new_zeros(())


def _divergence(logs: Tensor, output: TeacherOutput, temperature: float) -> Tensor:
    """Return T^2 times the mean over pixels of KL(teacher || student), both softened by the temperature T.

    logs: (N, C, H, W) log-probabilities of the student. output: (C, H, W) probabilities of the teacher for each image;
    pixels of padding, which have none, are left out.
    """
    import torch

    wanted = torch.stack([each for each in output if isinstance(each, torch.Tensor)])  # (N, C, H, W)
    valid = wanted[:, 0] >= 0
    target = (wanted.clamp(min=1e-12).log() / temperature).log_softmax(dim=1)
    student = (logs / temperature).log_softmax(dim=1)
    return temperature**2 * mean_over_images((target.exp() * (target - student)).sum(dim=1), valid)
