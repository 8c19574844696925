"""Find the pixels of a view that show the image, so that padding is neither labelled nor counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.types import Prediction

PADDING = -1.0
"""The value in place of probabilities outside of the image: less than any threshold."""
_LEAST_SHOWN = 0.5


def valid_pixels(views: Any) -> Tensor | None:
    """Return (N, H, W) bool, False in padding, of `tlvision.data.batches.Views`; None if there is no padding."""
    valid: Tensor | None = getattr(views, "valid", None)
    return valid


def blank_padding(chances: Tensor, valid: Tensor) -> Tensor:
    """Return (C, H, W) probabilities that are `PADDING` outside of `valid`, (H, W) bool."""
    return chances.masked_fill(~valid, PADDING)


def without_padding(found: Prediction, valid: Tensor) -> Prediction:
    """Return a prediction without the objects of which less than half lies on the image; masks end where it ends.

    found: of torch tensors, boxes in pixels of the network input. valid: (H, W) bool.
    """
    from torch.nn.functional import pad

    height, width = valid.shape
    sums = pad(valid.double().cumsum(0).cumsum(1), (1, 0, 1, 0))  # (H + 1, W + 1): valid pixels above and to the left
    boxes: Any = found.boxes
    edges = boxes.round().long()
    x0, x1 = edges[:, 0].clamp(0, width), edges[:, 2].clamp(0, width)
    y0, y1 = edges[:, 1].clamp(0, height), edges[:, 3].clamp(0, height)
    shown = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    kept = shown >= _LEAST_SHOWN * ((x1 - x0) * (y1 - y0)).clamp(min=1)
    inside = found[kept.nonzero()[:, 0]]  # the one place here that waits for the device
    masks: Any = inside.masks
    return inside if masks is None else replace(inside, masks=masks * valid.to(masks.dtype))


def mean_over_images(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of (N, h, w) values over what shows an image: 0-d; 0 if nothing does.

    valid: (N, H, W) bool, at any resolution, or None. A value counts as much as there is image in its cell.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    if valid is None:
        return values.mean()
    weights = adaptive_avg_pool2d(valid[:, None].to(values.dtype), (values.shape[1], values.shape[2]))[
        :, 0
    ]  # (N, h, w)
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)
