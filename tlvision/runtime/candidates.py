"""Read the boxes and masks of a one-stage detector; see `tlvision.plugin.export.Candidates`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.plugin.export import Candidates
from tlvision.runtime.suppress import Floats, Ints, best_first, best_of_each, clip, floor_of, suppress
from tlvision.types import Prediction

Outputs = Mapping[str, Any]


def read_candidates(outputs: Outputs, size: tuple[int, int], settings: Candidates, least: float) -> list[Prediction]:
    """Return the objects of each image, best first, in network-input pixels.

    outputs: of the graph, numpy. size: height and width of the network input.
    least:   boxes with a lower score are left out, besides those below the floor of the settings. As a box only
             suppresses worse ones, the others are the same.
    """
    floor = floor_of(settings.score_floor, least)
    return [_read(outputs, image, size, settings, floor) for image in range(len(outputs["scores"]))]


def _read(outputs: Outputs, image: int, size: tuple[int, int], settings: Candidates, floor: np.float32) -> Prediction:
    rows, labels, scores = _choose(outputs, image, settings, floor)
    boxes = outputs["boxes"][image][rows]
    if settings.clip == "before":
        boxes = clip(boxes, size)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        rows, labels, scores, boxes = rows[solid], labels[solid], scores[solid], boxes[solid]
    if settings.nms_iou is not None:
        kept = suppress(boxes, labels, settings.nms_iou, settings.most)
    else:
        kept = np.arange(min(len(boxes), settings.most))
    rows, labels, scores, boxes = rows[kept], labels[kept], scores[kept], boxes[kept]
    masks = None
    if settings.masks:
        masks = _masks(outputs["prototypes"][image], outputs["coefficients"][image][rows], boxes, size)
    return Prediction(boxes=clip(boxes, size), scores=scores, labels=labels.astype(np.int64), masks=masks)


def _choose(outputs: Outputs, image: int, settings: Candidates, floor: np.float32) -> tuple[Ints, Ints, Floats]:
    """Return places, classes and scores of an image's candidates, best first."""
    all_scores = outputs["scores"][image]
    if settings.best_class:
        rows = np.arange(len(all_scores))
        labels = all_scores.argmax(axis=1)
        above = all_scores[rows, labels] > floor
        rows, labels = rows[above], labels[above]
    else:
        rows, labels = np.nonzero(all_scores > floor)
    scores = all_scores[rows, labels]
    if settings.most_before_of == "image":
        order = best_first(scores, settings.most_before)
    else:
        groups = labels if settings.most_before_of == "class" else outputs["levels"][image][rows]
        order = best_of_each(scores, groups, settings.most_before)
    rows, labels, scores = rows[order], labels[order], scores[order]
    if settings.factor_floor is None:
        return rows, labels, scores
    scores = scores * outputs["factors"][image][rows]
    order = best_first(scores, len(scores))
    order = order[scores[order] >= np.float32(settings.factor_floor)]
    return rows[order], labels[order], scores[order]


def _masks(prototypes: Floats, coefficients: Floats, boxes: Floats, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return (K, H, W) masks: the sign of the logits at the size of the input, cut at the boxes.

    prototypes: (M, h, w). coefficients: (K, M).
    """
    channels, height, width = prototypes.shape
    logits = (coefficients @ prototypes.reshape(channels, -1)).reshape(-1, height, width)  # (K, h * w) -> (K, h, w)
    masks = np.zeros((len(logits), *size), np.uint8)
    for logit, box, mask in zip(logits, boxes, masks, strict=True):
        # A pixel is inside from the whole number on that is not below the edge.
        x0, y0, x1, y1 = (max(0, int(np.ceil(edge))) for edge in box)
        full = cv2.resize(logit, size[::-1], interpolation=cv2.INTER_LINEAR)
        mask[y0:y1, x0:x1] = full[y0:y1, x0:x1] > 0
    return masks
