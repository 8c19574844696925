"""Decide which predictions of the teacher on unlabelled images are pseudo-labels, for every hook that learns from them.

The pseudo-labels belong to the teacher: it predicts once in a micro-batch, and its thresholds, their adaptation and the
limit on the number of labels follow its predictions, whoever learns from them. `mean_teacher`, `masked_consistency` and
`class_mix` decide only how the student sees the image.

Sources: Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017 (the averaged teacher); Liu et al.,
"Unbiased Teacher", ICLR 2021 (burn-in on labels, hard labels over a threshold); Zhang et al., "FlexMatch", NeurIPS 2021
(`adaptive`); Chen et al., "LabelMatch", CVPR 2022 (`max_pseudo_label_ratio`). Differences are stated in
`tlvision.hooks.pseudo_labels.thresholds` and `tlvision.hooks.pseudo_labels.count_limit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObserverHook
from tlvision.hooks.parameters import Share
from tlvision.hooks.pseudo_labels.count_limit import CountLimit
from tlvision.hooks.pseudo_labels.labels import filter_by_confidence
from tlvision.hooks.pseudo_labels.monitor import LabelMonitor
from tlvision.hooks.pseudo_labels.targets import PseudoTargets
from tlvision.hooks.pseudo_labels.teacher import TeacherOutput, teacher_predictions
from tlvision.hooks.pseudo_labels.thresholds import Thresholds
from tlvision.plugin import HasDenseLogits
from tlvision.types import InputError, Prediction

_LEARNT = "pseudo_labels"


class PseudoLabels(ObserverHook):
    """Make pseudo-labels from the teacher's confident predictions; other hooks learn from them. Needs the hook `ema`.

    threshold:    confidence from which a prediction is a pseudo-label, 0..1.
    thresholds:   `{class name: threshold}` for classes that need their own.
    adaptive:     lower the thresholds of classes of which the teacher is less confident or that it hardly predicts, by
                  half at most; see `tlvision.hooks.pseudo_labels.thresholds.Thresholds`.
    background:   a detector's image of which no score reaches this is a target without objects, 0..1; with 0 no image
                  is, with 1 every image without a pseudo-label.
    max_pseudo_label_ratio: of a detector: raise the thresholds until an image has no more pseudo-labels of a class, on
                  average, than this many times the objects of it that a labelled image has. None: no limit.
    burn_in:      fraction of the run that trains on labels only.
    ramp:         fraction of the run after that, over which the weight of pseudo-labels rises linearly from 0.
    patience:     steps without any pseudo-label after which a notice is added.
    """

    uses_unlabelled = True
    uses_teacher = True

    def __init__(
        self,
        *,
        threshold: Share = 0.8,
        thresholds: dict[str, Share] = {},  # noqa: B006  (a schema; never written to)
        adaptive: bool = False,
        background: Share = 0.0,
        max_pseudo_label_ratio: Annotated[float, Field(gt=0)] | None = None,
        burn_in: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        ramp: Share = 0.1,
        patience: Annotated[int, Field(ge=1)] = 50,
    ) -> None:
        self.background, self.burn_in, self.ramp, self.patience = background, burn_in, ramp, patience
        self.thresholds = Thresholds(threshold, thresholds, adaptive=adaptive)
        self.limit = None if max_pseudo_label_ratio is None else CountLimit(max_pseudo_label_ratio)
        self._monitors: dict[str, LabelMonitor] = {}

    def before_fit(self, context: Context) -> None:
        """Fit the thresholds to the classes and publish the pseudo-labels as `context.pseudo_labels`.

        Raises InputError if a threshold names no class of the run, or a setting counts the objects of a label map.
        """
        self.thresholds.bind(context.classes, self.key())
        if isinstance(context.adapter, HasDenseLogits) and (self.background or self.limit):
            raise InputError(
                f"{self.key()}: background and max_pseudo_label_ratio count objects, but this model labels pixels. "
                "Remove them."
            )
        if self.limit is not None:
            self.limit.bind(len(context.classes))
        context.pseudo_labels = self

    def weight(self, context: Context) -> float | None:
        """Return the weight of pseudo-labels at the current step, 0..1; None during the burn-in."""
        if context.progress < self.burn_in:
            return None
        return ramp_up(context.progress, self.burn_in, self.ramp)

    def targets(self, context: Context, hook: str, threshold: float | None = None) -> PseudoTargets:
        """Return the pseudo-labels of the current micro-batch.

        hook:      the key of the hook that learns from them.
        threshold: 0..1, in the place of the setting `threshold`, for this hook only; it is logged in the hook's name.
        """
        output = teacher_predictions(context)
        self._learn(context, output)
        name = self.key() if threshold is None else hook
        cache = context.step_data.cache
        key = f"{_LEARNT}/{name}"
        if key not in cache:
            values = self._thresholds(output, threshold)
            cache[key] = filter_by_confidence(output, values, self.background)
            monitor = self._monitors.setdefault(name, LabelMonitor(name, self.patience))
            monitor.observe(context, output, cache[key], values)
            if self.thresholds.adaptive or self.limit is not None:
                for each, value in zip(context.classes.names, values, strict=True):
                    context.measures[f"{name}/threshold/{each}"] = value
        found: PseudoTargets = cache[key]
        return found

    def _learn(self, context: Context, output: TeacherOutput) -> None:
        """Let thresholds and limit follow the predictions, once in a micro-batch."""
        if _LEARNT in context.step_data.cache:
            return
        context.step_data.cache[_LEARNT] = True
        self.thresholds.learn(output)
        predictions = [each for each in output if isinstance(each, Prediction)]
        if self.limit is not None and predictions:
            self.limit.learn(predictions, context.step_data.batch)

    def _thresholds(self, output: TeacherOutput, threshold: float | None) -> list[float]:
        values = self.thresholds.values(threshold)
        if self.limit is None or not isinstance(output[0], Prediction):
            return values
        return [max(pair) for pair in zip(values, self.limit.values(), strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return thresholds, limit and counts."""
        monitors = {name: monitor.state() for name, monitor in sorted(self._monitors.items())}
        state: dict[str, Any] = {"thresholds": self.thresholds.state(), "monitors": monitors}
        return state if self.limit is None else state | self.limit.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.thresholds.load(state["thresholds"])
        for name, values in state["monitors"].items():
            self._monitors[name] = LabelMonitor(name, self.patience)
            self._monitors[name].load(values)
        if self.limit is not None:
            self.limit.load(state)


def ramp_up(progress: float, start: float, length: float) -> float:
    """Return 0 before `start`, then a value that rises linearly to 1 over `length`; all are fractions of the run.

    >>> ramp_up(0.1, 0.25, 0.25), ramp_up(0.375, 0.25, 0.25), ramp_up(0.9, 0.25, 0.25), ramp_up(0.25, 0.25, 0.0)
    (0.0, 0.5, 1.0, 1.0)
    """
    if progress < start:
        return 0.0
    return min(1.0, (progress - start) / length) if length else 1.0
