"""Predictions of a model for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tlvision.types.arrays import Array, check_array, check_same_length
from tlvision.types.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """The objects (or, for semantic tasks, the label map) that a model finds in one image.

    From an adapter: torch tensors in *network-input* pixels. From the core: numpy in pixels of the original image.

    boxes:    (K, 4) float32, x0 y0 x1 y1, same frame as `Target.boxes`.
    scores:   (K,) float32 in 0..1.
    labels:   (K,) int64, contiguous class index; no background class.
    masks:    None, or (K, H, W) uint8 with values 0 and 1.
    semantic: None, or (H, W) int64 class index per pixel.

    Raises ValueError or TypeError that shows the expected and the actual shape or dtype.
    """

    boxes: Array
    scores: Array
    labels: Array
    masks: Array | None = None
    semantic: Array | None = None

    def __post_init__(self) -> None:
        check_array("Prediction", "boxes", self.boxes, ("K", 4), ("float32",))
        check_array("Prediction", "scores", self.scores, ("K",), ("float32",))
        check_array("Prediction", "labels", self.labels, ("K",), ("int64",))
        rows = {"boxes": self.boxes, "scores": self.scores, "labels": self.labels}
        if self.masks is not None:
            check_array("Prediction", "masks", self.masks, ("K", "H", "W"), ("uint8",))
            rows["masks"] = self.masks
        if self.semantic is not None:
            check_array("Prediction", "semantic", self.semantic, ("H", "W"), ("int64",))
        check_same_length("Prediction", rows)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Array | slice) -> Prediction:
        """Return some of the objects; a label map stays as it is.

        chosen: (K,) bool, indices, or a slice; an array of the same library as the fields. On a GPU, a mask waits for
                the device to know how many there are; indices and slices do not.

        >>> found = Prediction(
        ...     boxes=np.zeros((2, 4), np.float32), scores=np.array([0.5, 0.25], np.float32), labels=np.array([1, 0])
        ... )
        >>> found[found.labels == 1].scores.tolist(), found[1:].labels.tolist()
        ([0.5], [0])
        """
        masks = None if self.masks is None else self.masks[chosen]
        return replace(
            self, boxes=self.boxes[chosen], scores=self.scores[chosen], labels=self.labels[chosen], masks=masks
        )

    def above(self, least: float | Array) -> Prediction:
        """Return the objects with a score of at least `least`; a label map stays as it is.

        least: 0..1, one number, or (C,) a number for each class index.

        >>> found = Prediction(
        ...     boxes=np.zeros((2, 4), np.float32), scores=np.array([0.5, 0.25], np.float32), labels=np.array([1, 0])
        ... )
        >>> found.above(0.3).labels.tolist(), found.above(np.array([0.2, 0.6])).labels.tolist()
        ([1], [0])
        """
        threshold = least if isinstance(least, int | float) else least[self.labels]
        return self[self.scores >= threshold]

    def to_supervision(self, names: Sequence[str] | None = None) -> Any:
        """Return the objects as `supervision.Detections`, for its annotators, trackers and zones.

        names: of the classes, in the order of the contiguous index; they become `data["class_name"]`.

        Raises InputError if the package supervision (MIT) is not installed.

        >>> box = np.array([[0, 0, 4, 4]], np.float32)
        >>> found = Prediction(boxes=box, scores=np.array([0.5], np.float32), labels=np.array([0]))
        >>> found.to_supervision(["cat"]).data["class_name"].tolist()
        ['cat']
        """
        try:
            import supervision
        except ImportError as error:
            raise InputError("to_supervision: supervision is not installed. pip install supervision") from error
        found = self.numpy()
        return supervision.Detections(
            xyxy=found.boxes,
            confidence=found.scores,
            class_id=found.labels,
            mask=None if found.masks is None else found.masks.astype(bool),
            data={} if names is None else {"class_name": np.array([names[label] for label in found.labels], str)},
        )

    def numpy(self) -> Prediction:
        """Return the same prediction as numpy arrays on the CPU, without gradients."""
        fields = {name: _as_numpy(getattr(self, name)) for name in ("boxes", "scores", "labels", "masks", "semantic")}
        return Prediction(**fields)

    @classmethod
    def empty(cls, semantic: Array | None = None) -> Prediction:
        """Return a prediction without objects: numpy arrays, or with a label map arrays of its kind on its device.

        semantic: None, or (H, W) int64.

        >>> len(Prediction.empty())
        0
        """
        if semantic is None or isinstance(semantic, np.ndarray):
            boxes, scores, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
            return cls(boxes=boxes, scores=scores, labels=labels, semantic=semantic)
        none = semantic.new_zeros(0)  # a tensor, without importing torch
        return cls(boxes=none.reshape(0, 4).float(), scores=none.float(), labels=none.long(), semantic=semantic)


def _as_numpy(array: Array | None) -> Array | None:
    if array is None or isinstance(array, np.ndarray):
        return array
    return array.detach().cpu().numpy()
