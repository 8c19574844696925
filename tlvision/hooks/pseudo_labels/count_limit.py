"""Limit the number of pseudo-labels of each class to what labelled images have, by raising score thresholds.

After Chen et al., "Label Matching Semi-Supervised Object Detection" (LabelMatch), CVPR 2022: the threshold of a class
is the score at which unlabelled images have as many objects of it, on average, as labelled ones. Difference: it is
a lower bound on the thresholds of the config, updated at every step instead of every few thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tlvision.hooks.pseudo_labels.processes import sum_over_processes
from tlvision.plugin import constants

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.data.batches import Batch
    from tlvision.types import Prediction

_BINS = 1000
_KEEP = 0.98


class CountLimit:
    """The lowest score of each class that lets no more objects through than the limit allows.

    max_ratio: an unlabelled image may have, on average, this many times the objects of a class that a labelled image
               has.

    >>> limit = CountLimit(1.0)
    >>> limit.bind(2)
    >>> limit.values()
    [0.0, 0.0]
    """

    def __init__(self, max_ratio: float) -> None:
        self.max_ratio = max_ratio
        self._classes = 0

    def bind(self, classes: int) -> None:
        """Fit it to the number of classes; a state that was loaded for as many is kept."""
        import torch

        if self._classes == classes:
            return
        self._classes = classes
        self._scores = torch.zeros(classes, _BINS, dtype=torch.float64)  # how many found, by score, faded
        self._objects = torch.zeros(classes, dtype=torch.float64)  # in labelled images
        self._images = torch.zeros(2, dtype=torch.float64)  # unlabelled, faded, and labelled

    def learn(self, predictions: list[Prediction], batch: Batch) -> None:
        """Count predictions on unlabelled images and objects of labelled ones, in all processes."""
        import torch

        classes = self._classes
        scores, labels = (torch.cat([getattr(each, name) for each in predictions]) for name in ("scores", "labels"))
        place = labels * _BINS + (scores.float() * _BINS).long().clamp(0, _BINS - 1)
        found = torch.bincount(place, minlength=classes * _BINS)  # (classes * _BINS,)
        objects = torch.bincount(batch.labels.to(found.device), minlength=classes)
        images = constants([len(predictions), len(batch.counts)], found)
        new = sum_over_processes(torch.cat([found, objects, images])).cpu().double()
        self._scores = _KEEP * self._scores + new[: classes * _BINS].reshape(classes, _BINS)
        self._objects += new[classes * _BINS : -2]
        self._images = self._images * self._images.new_tensor([_KEEP, 1.0]) + new[-2:]

    def values(self) -> list[float]:
        """Return the lowest score of each class, 0..1; the highest bin of scores always passes."""
        unlabelled, labelled = self._images.tolist()
        if not labelled:
            return [0.0] * self._classes
        allowed = self.max_ratio * self._objects / labelled * unlabelled  # (classes,)
        above = self._scores.flip(1).cumsum(1).flip(1)  # (classes, bins): found with the bin's score or more
        too_many = (above > allowed[:, None]).sum(dim=1).clamp(max=_BINS - 1)
        return [float(number) / _BINS for number in too_many]

    def state(self) -> dict[str, Tensor]:
        """Return the state that a resumed run needs."""
        return {"limit_scores": self._scores, "limit_objects": self._objects, "limit_images": self._images}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._scores, self._objects, self._images = (
            state[f"limit_{name}"].clone() for name in ("scores", "objects", "images")
        )
        self._classes = len(self._objects)
