"""Compare explained detections with those of another prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchvision.ops import box_iou

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.types import Prediction


def compare(objects: Prediction, found: Prediction) -> tuple[Tensor, Tensor]:
    """Return the IoU of every pair of boxes, (K, L) float32, and whether both have the same class, (K, L) bool.

    objects, found: K and L detections, tensors in the same frame.
    """
    ious = box_iou(objects.boxes, found.boxes.detach()).nan_to_num(0.0)  # two boxes without an area make 0 / 0
    return ious, objects.labels[:, None] == found.labels[None]
