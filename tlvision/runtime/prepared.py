"""An image that is ready for the graph: decoded and brought to the size of the network input."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision.data.dataset import Meta
from tlvision.types import Pixels, Sample


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """A network input. pixels: (H, W, 3) uint8 RGB. meta: the way back to the image."""

    pixels: Pixels
    meta: Meta


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """Everything that a prediction needs of an image; `RuntimeModel.prepare_image` makes it.

    sample:  name and size of the image.
    content: the network input; for a bundle with tiles, which has many for an image, the image as it was given: the
             content of its file, or (H, W, 3) uint8 RGB.
    """

    sample: Sample
    content: NetworkInput | Pixels | bytes
