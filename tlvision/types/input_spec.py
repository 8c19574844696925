"""The image format that a model expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The image format that the pretrained weights expect. Data only; the core converts images.

    resize:       "letterbox" keeps the aspect ratio and pads the rest; "stretch" does not.
    place:        where a letterboxed image lies in the input: in the "centre", or in its top left "corner".
    multiple_of:  height and width of the network input are a multiple of this, in pixels.
    margin:       pixels by which the input exceeds a letterboxed image at least, both sides together, when it is not
                  augmented: some models are surer of objects at the edge of the image where padding follows.
    mean, std:    per channel in `channel_order`, in units of `value_range`: the adapter gets (x - mean) / std.
    channel_order: "rgb" or "bgr".
    value_range:  what 0..255 is scaled to before mean and std: 1.0 for 0..1, 255.0 for 0..255.
    pad_value:    the colour of padding, one value 0..255 per channel in RGB order, before normalisation.

    >>> InputSpec(multiple_of=32).mean
    (0.0, 0.0, 0.0)
    """

    resize: Literal["letterbox", "stretch"] = "letterbox"
    place: Literal["centre", "corner"] = "centre"
    multiple_of: int = 32
    margin: int = 0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    value_range: float = 1.0
    pad_value: tuple[int, int, int] = (114, 114, 114)
