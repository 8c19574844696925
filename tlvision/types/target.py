"""The labels of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlvision.types.arrays import Array, check_array, check_same_length

IGNORE_INDEX = 255
"""The value of a pixel in a label map that counts neither in a loss nor in a metric."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """The objects (and, for semantic tasks, the label map) of one image.

    Arrays are numpy on the data side and torch tensors on the model side; shapes and dtypes are the same.

    boxes:    (M, 4) float32, x0 y0 x1 y1 in pixels of the image they belong to, measured from the outer edge of
              the top-left pixel (x in 0..width, y in 0..height); x1 > x0 and y1 > y0.
    labels:   (M,) int64, contiguous class index, 0..len(class_map) - 1. There is no background class.
    crowd:    (M,) bool, COCO's iscrowd: a region of many objects that is neither to be learnt nor counted against.
    masks:    None, or (M, H, W) uint8 with values 0 and 1, one instance mask per object.
    semantic: None, or (H, W) int64 class index per pixel, with IGNORE_INDEX where nothing is known.

    Raises ValueError or TypeError that shows the expected and the actual shape or dtype.

    >>> import numpy as np
    >>> len(Target(boxes=np.array([[1, 2, 3, 4]], np.float32), labels=np.array([0]), crowd=np.array([False])))
    1
    """

    boxes: Array
    labels: Array
    crowd: Array
    masks: Array | None = None
    semantic: Array | None = None

    def __post_init__(self) -> None:
        check_array("Target", "boxes", self.boxes, ("M", 4), ("float32",))
        check_array("Target", "labels", self.labels, ("M",), ("int64",))
        check_array("Target", "crowd", self.crowd, ("M",), ("bool",))
        rows = {"boxes": self.boxes, "labels": self.labels, "crowd": self.crowd}
        if self.masks is not None:
            check_array("Target", "masks", self.masks, ("M", "H", "W"), ("uint8",))
            rows["masks"] = self.masks
        if self.semantic is not None:
            check_array("Target", "semantic", self.semantic, ("H", "W"), ("int64",))
        check_same_length("Target", rows)

    def __len__(self) -> int:
        return len(self.labels)


def empty_target() -> Target:
    """Return the target of an image without objects (numpy)."""
    return Target(boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), crowd=np.zeros(0, bool))
