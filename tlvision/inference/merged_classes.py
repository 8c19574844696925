"""A model whose classes are finer than ours, seen through our classes: car, truck and bus are all vehicle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlvision.plugin import HasDenseLogits, ScoreKind, constants, score_kind

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter
    from tlvision.types import Prediction, Target


def merge_classes(adapter: Adapter, ours: Sequence[int]) -> Adapter:
    """Return an adapter that predicts our classes; it shares the module, and cannot be trained.

    ours: for each class of the model the index of the one of ours that it is.

    An object that the model gives two names, both of them one of ours, is found twice: nothing is suppressed that the
    model did not. The score of a pixel for one of our classes is the highest of those that it is made of.
    """
    kind = _MergedLabelMaps if isinstance(adapter, HasDenseLogits) else MergedClasses
    return kind(adapter, ours)


class MergedClasses:
    """An adapter for evaluation whose labels are ours; see `merge_classes`."""

    def __init__(self, adapter: Adapter, ours: Sequence[int]) -> None:
        self.module, self.input_spec = adapter.module, adapter.input_spec
        self.groups, self.taps = adapter.groups, adapter.taps
        self._adapter, self._ours = adapter, tuple(ours)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the model's."""
        return self._adapter.features(images)

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Refuse: targets have our classes, the model has its own."""
        raise NotImplementedError("a model whose classes are merged is for evaluation alone")

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return what the model finds, in our classes."""
        return [self._merged(each) for each in self._adapter.predict(images)]

    def _merged(self, found: Prediction) -> Prediction:
        theirs: Any = found.labels  # a tensor, as an adapter gives it
        return replace(found, labels=constants(self._ours, theirs)[theirs])


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
            scores[:, [theirs for theirs, index in enumerate(self._ours) if index == ours]].amax(dim=1)
            for ours in range(max(self._ours) + 1)
        ]
        return torch.stack(parts, dim=1)
