"""Find objects with a two-stage detector: proposals, pooled regions, boxes, masks; all numpy but the graphs.

Source: Ren et al., "Faster R-CNN", 2015, section 3; He et al., "Mask R-CNN", 2017, section 3; Lin et al., "Feature
Pyramid Networks", 2017, equation 1 (the level of a region).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tlvision.plugin.export import Deltas, Pooling, Proposals, TwoStage
from tlvision.runtime.paste import paste_masks
from tlvision.runtime.suppress import Floats, Ints, best_first, clip, floor_of, suppress
from tlvision.types import Prediction

Outputs = Mapping[str, Any]


class RunGraph(Protocol):
    """Runs a graph by its name."""

    def __call__(self, name: str, inputs: Mapping[str, Any]) -> Outputs:
        """Return the outputs by name, numpy, for inputs by name."""
        ...


def read_two_stage(
    run: RunGraph, outputs: Outputs, size: tuple[int, int], settings: TwoStage, least: float
) -> list[Prediction]:
    """Return the objects of each image, best first, in network-input pixels.

    run:     the graphs "head" and "masks". outputs: of the graph "model".
    size, least: as for `tlvision.runtime.candidates.read_candidates`.
    """
    floor = floor_of(settings.score_floor, least)
    return [
        _read(run, outputs, image, size, settings=settings, floor=floor) for image in range(len(outputs["level_0"]))
    ]


def _read(
    run: RunGraph, outputs: Outputs, image: int, size: tuple[int, int], *, settings: TwoStage, floor: np.float32
) -> Prediction:
    levels = [outputs[f"level_{level}"][image : image + 1] for level in range(len(settings.pooling.strides))]
    regions = _proposals(outputs, image, size, settings.proposals)
    found = _regions(run, "head", levels, regions, settings.pooling)
    scores, deltas = found["scores"], found["deltas"]
    rows, labels = np.nonzero(scores > floor)
    chosen = deltas[rows, labels if deltas.shape[1] > 1 else 0]
    boxes = clip(apply_deltas(regions[rows], chosen, settings.deltas), size)
    values = scores[rows, labels]
    large = ((boxes[:, 2:] - boxes[:, :2]) >= settings.min_size).all(axis=1)
    boxes, values, labels = boxes[large], values[large], labels[large].astype(np.int64)
    order = best_first(values, len(values))
    kept = order[suppress(boxes[order], labels[order], settings.nms_iou, settings.most)]
    boxes, values, labels = boxes[kept], values[kept], labels[kept]
    masks = None
    if settings.mask_pooling is not None:
        masks = _masks(run, levels, (boxes, labels), size, settings)
    return Prediction(boxes=boxes, scores=values, labels=labels, masks=masks)


def _proposals(outputs: Outputs, image: int, size: tuple[int, int], settings: Proposals) -> Floats:
    """Return (K, 4) boxes in network-input pixels, best first."""
    boxes, scores, level_of = [], [], []
    for level, shapes in enumerate(settings.anchors):
        cells = outputs[f"objectness_{level}"][image]  # (h, w, A)
        objectness = cells.ravel()
        best = best_first(objectness, settings.pre_nms)
        fixed = None if settings.strides is None else settings.strides[level]
        stride = fixed or size[0] // cells.shape[0], fixed or size[1] // cells.shape[1]
        anchors = _anchors(np.array(shapes, np.float32), best, cells.shape[:2], stride)
        deltas = outputs[f"deltas_{level}"][image].reshape(-1, 4)[best]  # (h, w, A, 4) -> (h * w * A, 4)
        boxes.append(apply_deltas(anchors, deltas, settings.deltas))
        scores.append(objectness[best])
        level_of.append(np.full(len(best), level))
    every = clip(np.concatenate(boxes), size)
    sides = every[:, 2:] - every[:, :2]
    large = (sides > settings.min_size if settings.strict else sides >= settings.min_size).all(axis=1)
    every, logits, labels = every[large], np.concatenate(scores)[large], np.concatenate(level_of)[large]
    order = np.argsort(-logits, kind="stable")
    kept = suppress(every[order], labels[order], settings.nms_iou, settings.most)
    chosen: Floats = every[order][kept]
    return chosen


def _anchors(shapes: Floats, rows: Ints, cells: tuple[int, int], stride: tuple[int, int]) -> Floats:
    """Return the anchors with these numbers, (K, 4): all of a cell, then the next cell of its row.

    shapes: (A, 4) around the origin of a cell. cells: rows and columns of the level. stride: pixels of a cell down and
    across.
    """
    cell, shape = rows // len(shapes), rows % len(shapes)
    down, across = stride
    x, y = (cell % cells[1]) * across, (cell // cells[1]) * down
    corner: Floats = np.stack([x, y, x, y], axis=1).astype(np.float32)
    return corner + shapes[shape]


def apply_deltas(boxes: Floats, deltas: Floats, settings: Deltas) -> Floats:
    """Return (K, 4) boxes that differ from `boxes` by `deltas`, both (K, 4).

    >>> deltas = np.array([[0.5, 0, 0, np.log(2)]], np.float32)
    >>> apply_deltas(np.array([[0, 0, 10, 10]], np.float32), deltas, Deltas(most_log=4.0)).round(3).tolist()
    [[5.0, -5.0, 15.0, 15.0]]
    """
    values = deltas * np.array(settings.std, np.float32) + np.array(settings.means, np.float32)
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + np.float32(0.5) * sizes + values[:, :2] * sizes
    least = -settings.most_log if settings.both else -np.inf
    half = np.float32(0.5) * sizes * np.exp(np.clip(values[:, 2:], least, settings.most_log))
    moved: Floats = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)
    return moved


def level_of_region(boxes: Floats, pooling: Pooling) -> Ints:
    """Return the index of the level that each box is pooled from: one coarser where it is twice as large.

    >>> pooling = Pooling(strides=(4, 8), size=7, finest=56.0, sampling_ratio=2, aligned=False)
    >>> level_of_region(np.array([[0, 0, 100, 100], [0, 0, 120, 120]], np.float32), pooling).tolist()
    [0, 1]
    """
    root = np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1))
    level = np.floor(np.log2(root / np.float32(pooling.finest) + np.float32(1e-6)))
    index: Ints = np.clip(level, 0, len(pooling.strides) - 1).astype(np.int64)
    return index


def _regions(
    run: RunGraph, graph: str, levels: list[Floats], boxes: Floats, pooling: Pooling
) -> dict[str, npt.NDArray[np.float32]]:
    """Run a graph on the regions of one image, level by level, and return its outputs in the order of the boxes."""
    level_of = level_of_region(boxes, pooling)
    found: dict[str, Any] = {}
    for level, stride in enumerate(pooling.strides):
        rows = np.flatnonzero(level_of == level)
        # An image without regions is asked for none of the first level: so the shapes of the outputs are known.
        if not len(rows) and (len(boxes) or level):
            continue
        places = (boxes[rows] / np.float32(stride)).astype(np.float32)
        part = run(graph, {"features": levels[level], "places": places, "images": np.zeros(len(rows), np.int64)})
        for name, values in part.items():
            found.setdefault(name, np.zeros((len(boxes), *values.shape[1:]), np.float32))[rows] = values
    return found


def _masks(
    run: RunGraph, levels: list[Floats], found: tuple[Floats, Ints], size: tuple[int, int], settings: TwoStage
) -> npt.NDArray[np.uint8]:
    """Return (K, H, W) masks of 0 and 1. found: boxes (K, 4) and labels (K,)."""
    boxes, labels = found
    if not len(boxes):
        return np.zeros((0, *size), np.uint8)
    assert settings.mask_pooling is not None
    masks = _regions(run, "masks", levels, boxes, settings.mask_pooling)["masks"]
    of_class = masks[np.arange(len(boxes)), labels if masks.shape[1] > 1 else 0]
    return paste_masks(of_class, boxes, size, whole_pixels=settings.paste == "whole pixels")
