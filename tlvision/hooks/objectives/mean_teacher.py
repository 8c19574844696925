"""A student learns from what its own moving average, the teacher, is sure of in unlabelled images.

Sources: Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017 (the averaged teacher); Liu et al.,
"Unbiased Teacher", ICLR 2021, equations 3 to 6, Li et al., "Cross-Domain Adaptive Teacher", CVPR 2022, and Kay et
al., "Align and Distill" (ALDI), 2024, for detectors: burn-in on labels, weak view for the teacher, strong one for the
student, hard labels over a threshold; Hinton et al., "Distilling the Knowledge", 2015, for soft ones.

Equation: L = L_labelled + weight * r(p) * q * L_model(strong(u), {y in teacher(weak(u)): score(y) >= t_class}), r the
ramp, q the share of images (detectors) or pixels (label maps) with a label; see `self_training_loss`.
Different here: the loss on pseudo-labels is the model family's own, whole, boxes included, for every family; an image
in which nothing reaches the threshold teaches nothing, where most take it for background (`background: 1`, or those of
which all scores are low), and thresholds can rise (`at_most`); padding has no labels and counts nowhere; soft
distillation of a detector is done on its feature maps, because what detectors score before suppression has no common
form. The teacher is the hook `ema`, whose weights are
evaluated and kept as well; it averages buffers too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tlvision.data.padding import mean_over_images, valid_pixels
from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.features.taps import choose_taps
from tlvision.hooks.pseudo_labels.labels import (
    TeacherLabels,
    TeacherOutput,
    ramp_up,
    self_training_loss,
    teacher_predictions,
)
from tlvision.hooks.pseudo_labels.thresholds import Thresholds
from tlvision.plugin import HasDenseLogits, class_log_probabilities, interpolate, score_kind

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter, Tap

Share = Annotated[float, Field(ge=0, le=1)]


class MeanTeacher(ObjectiveHook):
    """Learn from the teacher's pseudo-labels on unlabelled images; needs the hook `ema`.

    weight:       of the whole, 0 or more.
    threshold:    confidence from which a pseudo-label counts, 0..1.
    thresholds:   `{class name: threshold}` for classes that want their own.
    background:   a detector's image of which no score reaches this holds no object, and the student learns that, 0..1;
                  0 says so of none, 1 of every image without a pseudo-label.
    at_most:      of a detector: thresholds rise until an image has no more pseudo-labels of a class, on average, than
                  so many times the objects of it that a labelled image has. None: no limit.
    adaptive:     lower the thresholds of classes that the teacher is less or hardly ever sure of, to half at most, as
                  `tlvision.hooks.pseudo_labels.thresholds.Thresholds` has it.
    burn_in:      fraction of the run that is spent on labels alone.
    ramp:         fraction of the run after that, over which the weight rises from 0, linearly.
    distillation: hard (pseudo-labels), soft (the teacher's probabilities for every pixel, or a detector's feature
                  maps), or both.
    temperature:  of soft distillation of label maps; above 1 softens.
    taps:         of soft distillation of detectors: names, coarsest, finest, "stride 16" or all.
    patience:     steps without any pseudo-label after which the user is told.
    """

    uses_unlabelled = True
    uses_teacher = True

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        threshold: Share = 0.8,
        thresholds: dict[str, Share] = {},  # noqa: B006  (a schema; never written to)
        adaptive: bool = False,
        background: Share = 0.0,
        at_most: Annotated[float, Field(gt=0)] | None = None,
        burn_in: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        ramp: Share = 0.1,
        distillation: Literal["hard", "soft", "both"] = "hard",
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        taps: list[str] = ["coarsest"],  # noqa: B006
        patience: Annotated[int, Field(ge=1)] = 50,
    ) -> None:
        self.weight, self.burn_in, self.ramp = weight, burn_in, ramp
        self.distillation, self.temperature, self.words = distillation, temperature, list(taps)
        known = Thresholds(threshold, thresholds, adaptive=adaptive)
        self.labels = TeacherLabels(self.key(), known, patience, background=background, at_most=at_most)
        self._seen: tuple[Tap, ...] = ()

    def prepare(self, adapter: Adapter) -> None:
        """Choose the taps of soft distillation, which label maps do without."""
        if self.distillation != "hard" and not isinstance(adapter, HasDenseLogits):
            self._seen = choose_taps(adapter, self.words, self.key())

    def before_fit(self, context: Context) -> None:
        """Fit the thresholds to the classes."""
        self.labels.bind(context)

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"hard", "soft"}, those that are wanted, weights applied; nothing during the burn-in."""
        if context.progress < self.burn_in:
            return {}
        factor = self.weight * ramp_up(context.progress, self.burn_in, self.ramp)
        losses = {}
        if self.distillation != "soft":
            losses["hard"] = self._hard(context, factor)
        if self.distillation != "hard":
            losses["soft"] = factor * self._soft(context) if factor else _nothing(context)
        return losses

    def _hard(self, context: Context, factor: float) -> Tensor:
        assert context.step_data.unlabelled is not None
        return self_training_loss(context, context.step_data.unlabelled.strong, self.labels.of(context), factor)

    def _soft(self, context: Context) -> Tensor:
        assert context.step_data.unlabelled is not None
        strong = context.step_data.unlabelled.strong
        if isinstance(context.adapter, HasDenseLogits):
            scores = interpolate(context.adapter.dense_logits(strong), strong.shape[-2:])
            logs = class_log_probabilities(scores, score_kind(context.adapter))
            return _divergence(logs, teacher_predictions(context), self.temperature)
        return self._feature_difference(context, strong)

    def _feature_difference(self, context: Context, strong: Tensor) -> Tensor:
        """Return the mean over taps of |student - teacher|^2 / |teacher|^2, over what shows an image."""
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

    def state_dict(self) -> dict[str, Any]:
        """Return how sure the teacher was of each class, where thresholds adapt."""
        return self.labels.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.labels.load_state_dict(state)


def _nothing(context: Context) -> Tensor:
    assert context.step_data.unlabelled is not None
    return context.step_data.unlabelled.strong.new_zeros(())


def _divergence(logs: Tensor, said: TeacherOutput, temperature: float) -> Tensor:
    """Return T^2 times the mean over pixels of KL(teacher || student), both softened by the temperature T.

    logs: (N, C, H, W) log-probabilities of the student. said: (C, H, W) probabilities of the teacher for each image;
    pixels of padding, which have none, are left out.
    """
    import torch

    wanted = torch.stack([each for each in said if isinstance(each, torch.Tensor)])  # (N, C, H, W)
    valid = wanted[:, 0] >= 0
    target = (wanted.clamp(min=1e-12).log() / temperature).log_softmax(dim=1)
    student = (logs / temperature).log_softmax(dim=1)
    return temperature**2 * mean_over_images((target.exp() * (target - student)).sum(dim=1), valid)
