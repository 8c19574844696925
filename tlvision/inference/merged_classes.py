"""A model whose classes are finer than the run's, seen through the run's: car, truck and bus are all vehicle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlvision.plugin import HasDenseLogits, ScoreKind, constants, score_kind

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter
    from tlvision.types import Prediction, Target


def merge_classes(adapter: Adapter, target_classes: Sequence[int]) -> Adapter:
    """Return an adapter that predicts our classes; it shares the module, and cannot be trained.

    target_classes: for each class of the model the index of the run's class that it belongs to.

    An object that the model gives two names of one target class is found twice: nothing is suppressed that the model
    did not suppress. The score of a pixel for a target class is the highest of those that it is made of.
    """
    kind = _MergedLabelMaps if isinstance(adapter, HasDenseLogits) else MergedClasses
    return kind(adapter, target_classes)


class MergedClasses:
    """An adapter for evaluation whose labels are the run's classes; see `merge_classes`."""

    def __init__(self, adapter: Adapter, target_classes: Sequence[int]) -> None:
        self.module, self.input_spec = adapter.module, adapter.input_spec
        self.groups, self.taps = adapter.groups, adapter.taps
        self._adapter, self._target_classes = adapter, tuple(target_classes)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the model's."""
        return self._adapter.features(images)

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Refuse: targets have our classes, the model has its own."""
        raise NotImplementedError("a model whose classes are merged is for evaluation alone")

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return the model's predictions with target classes."""
        return [self._merged(each) for each in self._adapter.predict(images)]

    def _merged(self, found: Prediction) -> Prediction:
        source_labels: Any = found.labels  # a tensor, as an adapter gives it
        return replace(found, labels=constants(self._target_classes, source_labels)[source_labels])


class _MergedLabelMaps(MergedClasses):
    """The same for a model that scores every pixel."""

    @property
    def score_kind(self) -> ScoreKind:
        """As the model's."""
        return score_kind(self._adapter)

    def dense_logits(self, images: Tensor) -> Tensor:
        """Return (N, C, h, w) scores of our C classes."""
        import torch

        assert isinstance(self._adapter, HasDenseLogits)
        scores = self._adapter.dense_logits(images)  # (N, classes of the model, h, w)
        parts = [
            scores[:, [source for source, index in enumerate(self._target_classes) if index == target]].amax(dim=1)
            for target in range(max(self._target_classes) + 1)
        ]
        return torch.stack(parts, dim=1)
