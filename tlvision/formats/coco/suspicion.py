"""Notice boxes that are probably not COCO's x, y, width, height in pixels: fractions, corners, centres."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tlvision.types import InputError

_FEWEST = 3  # objects below which a coincidence is likely
_MANY, _LARGE = 10, 300  # objects, and pixels of the smallest image side, from which percentages are suspected
_NEARLY_ALL = 0.99
_MARGIN = 1.0  # pixels by which an annotation tool's boxes leave the image without meaning anything


def suspect_boxes(xywh: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], origin: str) -> str:
    """Return a sentence about boxes that fit another notation better than COCO's; empty if nothing is suspicious.

    xywh:   (M, 4) float64, finite, as the json has them.
    sizes:  (M, 2) float64, width and height of the image of each box in pixels.
    origin: for messages, the name of the json.

    Raises InputError if all boxes are fractions of the image size.

    >>> boxes = np.array([[50.0, 40, 70, 60], [10, 20, 30, 90], [60, 60, 99, 99]])
    >>> suspect_boxes(boxes, np.full((3, 2), 100.0), "train.json")[:60]
    'train.json: 3 of 3 boxes fit as corners [x0, y0, x1, y1], an'
    """
    if not len(xywh):
        return ""
    fractions = ((xywh >= 0) & (xywh <= 1.0 + 1e-6)).all(axis=1)
    remedy = "COCO boxes are [x, y, width, height] in pixels"
    if fractions.all():
        raise InputError(
            f"{origin}: all {len(xywh)} boxes lie between 0 and 1, so they seem to be fractions of the image size; "
            f"{remedy}: multiply them by width and height"
        )
    if fractions.sum() >= max(_FEWEST, 0.05 * len(xywh)):
        return (
            f"{origin}: {int(fractions.sum())} of {len(xywh)} boxes lie between 0 and 1 and may be fractions of the "
            f"image size; {remedy}"
        )
    if len(xywh) >= _MANY and (xywh[:, :2] + xywh[:, 2:] <= 100.0 + 1e-6).all() and sizes.min() >= _LARGE:
        return (
            f"{origin}: all {len(xywh)} boxes lie in the first 100 px of their images and may be percentages of the "
            f"image size; {remedy}"
        )
    beyond = (xywh[:, :2] + xywh[:, 2:] > sizes + _MARGIN).any(axis=1)
    if len(xywh) < _FEWEST or beyond.mean() < 0.05:
        return ""
    sides = xywh[:, 2:]
    as_corners = (sides > xywh[:, :2]).all(axis=1) & (sides <= sizes + _MARGIN).all(axis=1)
    centred = np.concatenate([xywh[:, :2] - sides / 2, sizes - (xywh[:, :2] + sides / 2)], axis=1)
    as_centres = (centred >= -_MARGIN).all(axis=1)
    for fits, notation in ((as_corners, "corners [x0, y0, x1, y1]"), (as_centres, "centres [x, y, width, height]")):
        if fits.mean() >= _NEARLY_ALL:
            return (
                f"{origin}: {int(fits.sum())} of {len(xywh)} boxes fit as {notation}, and {int(beyond.sum())} leave "
                f"their image as they are read; {remedy} from the top left corner. Check how the json was exported"
            )
    return ""
