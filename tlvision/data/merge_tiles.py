"""Join what a model has found in the tiles of an image. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tlvision.data.tiles import Window
from tlvision.types import Prediction

if TYPE_CHECKING:
    from tlvision.data.settings import TileSettings

_CANDIDATES = 10
"""Times the number of objects of an image that are looked at, the best ones; it bounds the time of a merge."""
_EDGE = 2.0
"""Pixels from an edge of its tile within which an object counts as cut."""
_INSIDE = 0.5
"""Share of a cut object in another one from which it is a part of that."""
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TilePrediction:
    """What a model has found in one tile: numpy, in pixels of the tile."""

    window: Window
    found: Prediction


def merge_tiles(
    tiles: Sequence[TilePrediction], size: tuple[int, int], settings: TileSettings, most: int
) -> Prediction:
    """Return what was found in an image: its objects, or its label map; arguments as for `merge_objects`.

    An image of one tile has the prediction of that tile, unchanged.
    """
    if len(tiles) == 1:
        return tiles[0].found
    if tiles[0].found.semantic is not None:
        return merge_label_maps(tiles, size)
    return merge_objects(tiles, size, settings, most)


def merge_objects(
    tiles: Sequence[TilePrediction], size: tuple[int, int], settings: TileSettings, most: int
) -> Prediction:
    """Return the objects of an image in its pixels, each once, by descending score.

    size: height and width of the image. most: objects of an image at most.

    Of the whole image, objects that fit into the overlap of two tiles are left out: a tile shows each of them whole,
    at a better resolution. Objects of one class from two tiles are one if their IoU is `settings.iou` or more, or if
    one is cut by an edge of its tile and lies in the other by half or more. The best one is kept, and cut ones come
    behind all others, so that the whole object outlives its part. `wbf` takes the mean of the boxes of objects that are
    not cut, weighted by score (Solovyev et al. 2021, "Weighted boxes fusion"); score and mask are those of the best.
    """
    tiles = [_large_ones(tile, size, settings) for tile in tiles]
    boxes, scores, labels, tile, cut = _in_image(tiles, size)
    best = np.argsort(-scores, kind="stable")[: _CANDIDATES * most]
    order = best[np.argsort(cut[best], kind="stable")]  # by score, those that are cut last
    kept, merged = [], []
    left = np.ones(len(order), bool)
    near = _near(tiles, tile[order])
    for place, index in enumerate(order):
        if not left[place]:
            continue
        rows = near[tile[index]]
        rows = rows[(rows > place) & left[rows] & (labels[order[rows]] == labels[index])]
        overlap, inside = _overlaps(boxes[index], boxes[order[rows]])
        duplicate = (overlap >= settings.iou) | (cut[order[rows]] & (inside >= _INSIDE))
        left[rows[duplicate]] = False
        kept.append(int(index))
        group = [int(index), *order[rows[(overlap >= settings.iou) & ~cut[order[rows]]]]]
        merged.append(np.average(boxes[group], axis=0, weights=scores[group]) if len(group) > 1 else boxes[index])
    chosen = np.array(kept, np.int64)
    by_score = np.argsort(-scores[chosen], kind="stable")[:most]
    chosen = chosen[by_score]
    final = np.array(merged).reshape(-1, 4)[by_score] if settings.merge == "wbf" else boxes[chosen]
    return Prediction(
        boxes=final.astype(np.float32).reshape(-1, 4),
        scores=scores[chosen].astype(np.float32),
        labels=labels[chosen],
        masks=_masks(tiles, chosen, size),
    )


def _large_ones(tile: TilePrediction, size: tuple[int, int], settings: TileSettings) -> TilePrediction:
    """Return a tile as it is, and of the whole image the objects that no tile is sure to show whole."""
    if tile.window != (0, 0, size[1], size[0]):
        return tile
    sides = tile.found.boxes[:, 2:] - tile.found.boxes[:, :2]
    return TilePrediction(tile.window, tile.found[sides.max(axis=1, initial=0) > settings.overlap * settings.size])


def _in_image(
    tiles: Sequence[TilePrediction], size: tuple[int, int]
) -> tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.int64], Flags]:
    """Return boxes in pixels of the image, scores, labels, number of the tile, and whether an inner edge cuts it."""
    boxes: list[Any] = [np.zeros((0, 4))]
    cut: list[Any] = [np.zeros(0, bool)]
    for tile in tiles:
        x0, y0, x1, y1 = tile.window
        here = tile.found.boxes.astype(np.float64) + np.array([x0, y0, x0, y0])
        inner = np.array([x0 > 0, y0 > 0, x1 < size[1], y1 < size[0]])
        near = np.abs(here - [x0, y0, x1, y1]) <= _EDGE
        boxes.append(here)
        cut.append((near & inner).any(axis=1))
    counts = [len(tile.found) for tile in tiles]
    return (
        np.concatenate(boxes),
        np.concatenate([np.zeros(0), *(tile.found.scores.astype(np.float64) for tile in tiles)]),
        np.concatenate([np.zeros(0, np.int64), *(tile.found.labels for tile in tiles)]),
        np.repeat(np.arange(len(tiles)), counts),
        np.concatenate(cut),
    )


def _near(tiles: Sequence[TilePrediction], owner: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Return for each tile the places of the objects of other tiles that show a part of it.

    owner: (K,) number of the tile of each object.
    """
    windows = np.array([tile.window for tile in tiles]).reshape(-1, 4)
    members = [np.flatnonzero(owner == number) for number in range(len(tiles))]
    found = []
    for number, window in enumerate(windows):
        meets = (np.minimum(window[2:], windows[:, 2:]) > np.maximum(window[:2], windows[:, :2])).all(axis=1)
        meets[number] = False
        found.append(np.concatenate([np.zeros(0, np.int64), *(members[other] for other in np.flatnonzero(meets))]))
    return found


def _overlaps(box: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return the IoU of a box with others (K, 4), and the share of each other that lies in the box."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - shared
    return shared / np.maximum(union, 1e-9), shared / np.maximum(areas, 1e-9)


def _masks(tiles: Sequence[TilePrediction], chosen: npt.NDArray[np.int64], size: tuple[int, int]) -> Any:
    """Return the masks of the chosen objects in the image, (K, H, W) uint8, or None."""
    if not tiles or any(tile.found.masks is None for tile in tiles):
        return None
    ends = np.cumsum([len(tile.found) for tile in tiles])
    masks = np.zeros((len(chosen), *size), np.uint8)  # the system gives memory only to what is written
    for mask, index in zip(masks, chosen, strict=True):
        number = int(np.searchsorted(ends, index, side="right"))
        tile = tiles[number]
        x0, y0, x1, y1 = tile.window
        assert tile.found.masks is not None
        mask[y0:y1, x0:x1] = tile.found.masks[index - (ends[number] - len(tile.found))]
    return masks


def merge_label_maps(tiles: Sequence[TilePrediction], size: tuple[int, int]) -> Prediction:
    """Return the label map of an image, (H, W) int64: each pixel from the tile in which it lies farthest inside.

    Neighbours meet in the middle of what both show, where either has seen the most around it.
    """
    labels = np.zeros(size, np.int64)
    lefts = sorted({tile.window[0] for tile in tiles})
    tops = sorted({tile.window[1] for tile in tiles})
    for tile in tiles:
        x0, y0, x1, y1 = tile.window
        left, right = _own(lefts, x0, x1 - x0, size[1])
        top, bottom = _own(tops, y0, y1 - y0, size[0])
        assert tile.found.semantic is not None
        labels[top:bottom, left:right] = tile.found.semantic[top - y0 : bottom - y0, left - x0 : right - x0]
    return replace(Prediction.empty(), semantic=labels)


def _own(starts: Sequence[int], start: int, side: int, length: int) -> tuple[int, int]:
    """Return the range along one axis that the tile at `start` gives.

    >>> _own([0, 75, 150], 75, 100, 250)
    (87, 162)
    """
    place = starts.index(start)
    first = 0 if place == 0 else (start + starts[place - 1] + side) // 2
    last = length if place == len(starts) - 1 else (starts[place + 1] + start + side) // 2
    return first, last
