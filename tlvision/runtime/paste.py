"""Paste the small masks of boxes into the network input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tlvision.runtime.suppress import Floats

_THRESHOLD = 0.5


def paste_masks(masks: Floats, boxes: Floats, size: tuple[int, int], *, whole_pixels: bool) -> npt.NDArray[np.uint8]:
    """Return (K, H, W) masks of 0 and 1 in an input of `size` (H, W).

    masks: (K, m, m) probabilities. boxes: (K, 4) in network-input pixels.
    whole_pixels: whether boxes become whole pixels first, grown by a cell of the mask, as torchvision does; otherwise
                  the mask is sampled at the centre of each pixel, as mmdet does.
    """
    found = np.zeros((len(masks), *size), np.uint8)
    paste = _whole if whole_pixels else _exact
    for mask, box, canvas in zip(masks, boxes, found, strict=True):
        paste(mask, box, canvas)
    return found


def _exact(mask: Floats, box: Floats, canvas: npt.NDArray[np.uint8]) -> None:
    """Sample the mask, zero outside its cells, at the centre of each pixel in the box."""
    height, width = canvas.shape
    x0, y0, x1, y1 = (float(edge) for edge in box)
    # The outermost cells fade out over half a cell beyond the box, where they are below one half: nothing is set there.
    left, top = max(int(x0) - 1, 0), max(int(y0) - 1, 0)
    right, bottom = min(int(np.ceil(x1)) + 1, width), min(int(np.ceil(y1)) + 1, height)
    if right <= left or bottom <= top or x1 <= x0 or y1 <= y0:
        return
    down = _weights((np.arange(top, bottom) + 0.5 - y0) / (y1 - y0) * mask.shape[0] - 0.5, mask.shape[0], fade=True)
    across = _weights((np.arange(left, right) + 0.5 - x0) / (x1 - x0) * mask.shape[1] - 0.5, mask.shape[1], fade=True)
    canvas[top:bottom, left:right] = down @ mask @ across.T >= _THRESHOLD


def _whole(mask: Floats, box: Floats, canvas: npt.NDArray[np.uint8]) -> None:
    """Grow mask and box by a cell, round the box down to whole pixels, and resize the mask into it."""
    height, width = canvas.shape
    grown = np.pad(mask, 1)
    gain = grown.shape[0] / mask.shape[0]
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32(gain)
    centre = (box[2:] + box[:2]) * np.float32(0.5)
    x0, y0, x1, y1 = np.trunc(np.concatenate([centre - half, centre + half])).astype(int).tolist()
    wide, tall = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1 + 1, width), min(y1 + 1, height)
    if right <= left or bottom <= top:
        return
    rows = (np.arange(top - y0, bottom - y0) + 0.5) * grown.shape[0] / tall - 0.5
    columns = (np.arange(left - x0, right - x0) + 0.5) * grown.shape[1] / wide - 0.5
    down, across = _weights(rows, grown.shape[0], fade=False), _weights(columns, grown.shape[1], fade=False)
    canvas[top:bottom, left:right] = down @ grown @ across.T > _THRESHOLD


def _weights(places: npt.NDArray[np.float64], length: int, *, fade: bool) -> Floats:
    """Return (P, length) weights of linear interpolation at `places`, counted from the centre of the first cell.

    fade: whether there is zero beyond the cells, instead of the value of the outermost one.
    """
    places = places if fade else np.clip(places, 0, length - 1)
    weights: Floats = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(length))).astype(np.float32)
    return weights
