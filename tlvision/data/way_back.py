"""Map objects from network-input pixels back to pixels of the original image. numpy only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tlvision.data.geometry import unwarp_boxes, unwarp_masks
from tlvision.types import Prediction


def objects_in_image(found: Prediction, matrix: npt.NDArray[np.float64], width: int, height: int) -> Prediction:
    """Return the objects in pixels of an image of `width` x `height`, clipped to it.

    found: numpy, in network-input pixels. matrix: (3, 3), from original to network-input pixels.

    Objects that lie in the padding alone, and so have no area left, are taken out, with their masks. An object of which
    only the mask comes out empty stays, with an empty mask: boxes do not depend on masks.
    """
    boxes = unwarp_boxes(found.boxes, matrix, (height, width))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    visible = replace(found, boxes=boxes)[kept]
    if visible.masks is None:
        return visible
    return replace(visible, masks=unwarp_masks(visible.masks, matrix, (height, width)))
