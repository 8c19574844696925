"""What a model says about one image."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision.types.arrays import Array, check_array, check_same_length


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
