"""An image that is ready for the graph: decoded and brought to the size of the network input."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision.data.dataset import Meta
from tlvision.types import Pixels, Sample


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """Everything that a prediction needs of an image; `RuntimeModel.prepare_image` makes it.

    sample: name and size of the image.
    pixels: (H, W, 3) uint8 RGB: the network input, or for a bundle with tiles the image at full size.
    meta:   the way back from the network input to the image; None for a bundle with tiles.
    """

    sample: Sample
    pixels: Pixels
    meta: Meta | None
