"""A stand-in for cv2.resize in comparisons with upstream; also run in processes that have no other helper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from tlvision.data.geometry import paint, scale

_cv2_resize = cv2.resize


def resize_as_core(image: Any, size: Sequence[int], *_: Any, **__: Any) -> Any:
    """Resize (H, W, 3) uint8 to `size` (width, height) with the pixels that tlvision gives; a stand-in for cv2.resize.

    OpenCV's linear resize rounds each pixel a little low, and does not average when it shrinks.
    """
    width, height = (int(side) for side in size)
    small = min(width, image.shape[1]), min(height, image.shape[0])
    reduced = _cv2_resize(image, small, interpolation=cv2.INTER_AREA) if small != image.shape[1::-1] else image
    canvas = np.zeros((height, width, 3), np.uint8)
    paint(canvas, np.ascontiguousarray(reduced), scale(width / small[0], height / small[1]))
    return canvas
