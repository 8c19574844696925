"""Read the scores of every pixel, of the whole input or window by window; see `tlvision.plugin.export.DenseScores`."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.data.tiles import window_starts
from tlvision.runtime.suppress import Floats

_CHUNK = 16
"""Classes brought to the original size at a time: memory is bounded by one image, however many classes there are."""


def dense_scores(run: Callable[[Floats], Floats], images: Floats, window: int, *, align_corners: bool) -> list[Floats]:
    """Return (C, H, W) float32 scores of each image at the size of the network input.

    run:    gives (N, C, h, w) scores for (N, 3, H, W) inputs. window: side of the sliding window, 0 for whole images.
    """
    height, width = images.shape[-2:]
    tall, wide = (min(window, side) if window else side for side in (height, width))
    if (tall, wide) == (height, width):
        return [resize(each, (height, width), align_corners=align_corners) for each in run(images)]
    total: Floats | None = None
    times = np.zeros((height, width), np.float32)
    for top in window_starts(height, tall):
        for left in window_starts(width, wide):
            part = run(np.ascontiguousarray(images[..., top : top + tall, left : left + wide]))
            scores = np.stack([resize(each, (tall, wide), align_corners=align_corners) for each in part])
            if total is None:
                total = np.zeros((len(images), scores.shape[1], height, width), np.float32)
            total[..., top : top + tall, left : left + wide] += scores
            times[top : top + tall, left : left + wide] += 1
    assert total is not None
    return list(total / times)


def label_map_of(scores: Floats, matrix: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return (H, W) int64, the best class at each pixel of the original image of `size` (height, width).

    scores: (C, h, w) at the size of the network input. matrix: (3, 3), original -> network input.
    """
    left, top, right, bottom = image_place(matrix, size)
    best: Floats | None = None
    labels = np.zeros(size, np.int64)
    for first in range(0, len(scores), _CHUNK):
        part = resize(np.ascontiguousarray(scores[first : first + _CHUNK, top:bottom, left:right]), size)
        index = part.argmax(axis=0)
        value = np.take_along_axis(part, index[None], axis=0)[0]
        if best is None:
            best, labels = value, index.astype(np.int64)
            continue
        better = value > best
        best[better], labels[better] = value[better], index[better] + first
    return labels


def image_place(matrix: npt.NDArray[np.float64], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of an image in its network input, in pixels; arguments as `label_map_of`."""
    height, width = size
    # The image lies at a whole offset and has a whole size; see `tlvision.data.geometry.letterbox`.
    left, top = round(matrix[0, 2]), round(matrix[1, 2])
    return left, top, left + max(1, round(matrix[0, 0] * width)), top + max(1, round(matrix[1, 1] * height))


def resize(scores: Floats, size: tuple[int, int], *, align_corners: bool = False) -> Floats:
    """Return (C, H, W) float32 scores of `size` (H, W), linearly interpolated.

    scores: (C, h, w). align_corners: whether the centres of the outermost pixels are aligned, instead of outer edges.

    >>> resize(np.array([[[0.0, 1.0]]], np.float32), (1, 4))[0, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    >>> resize(np.array([[[0.0, 3.0]]], np.float32), (1, 4), align_corners=True)[0, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    if scores.shape[-2:] == size:
        return scores
    if align_corners:
        return _along(_along(scores, size[0], 1), size[1], 2)
    return np.stack([cv2.resize(each, size[::-1], interpolation=cv2.INTER_LINEAR) for each in scores])


def _along(values: Floats, length: int, axis: int) -> Floats:
    """Interpolate along one axis, outermost centres aligned."""
    here = values.shape[axis]
    places = np.linspace(0, here - 1, length) if length > 1 else np.zeros(1)
    low = np.minimum(places.astype(np.int64), max(here - 2, 0))
    share = (places - low).astype(np.float32)
    share = share.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    first, second = np.take(values, low, axis), np.take(values, np.minimum(low + 1, here - 1), axis)
    mixed: Floats = first + (second - first) * share
    return mixed
