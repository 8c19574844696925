"""Measure how much AP50 the errors in each image cost, and which errors they are.

Own definition, close to the costs of `tlvision.evaluation.error_kinds`. The cost of an image is the gain in AP50, the
mean over classes, if all errors in this image were repaired: wrong detections are not counted, and each object that no
detection found is found by a new detection that ranks first. Detections that are right keep their scores. Costs of
images do not add up: two repairs may help the same part of a precision-recall curve. Nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.average_precision import RECALLS, Ranking, rankings
from tlvision.evaluation.error_kinds import KINDS, Errors, sort_errors
from tlvision.evaluation.matching import Floats, Ints, Matches, match
from tlvision.evaluation.read import IouType, read_ground_truth, read_predictions
from tlvision.types import ClassThresholds

_AT_A_TIME = 2_000_000
"""Numbers in one array: right detections of a class times images."""


@dataclass(frozen=True, slots=True)
class ImageErrors:
    """What is wrong in one image.

    image_id: its id in the ground truth.
    cost:     AP50 that its errors cost, 0 or more.
    kinds:    kind of error -> how often it occurs among the detections at the operating point, and among the objects
              that these leave out; kinds that do not occur are left out.
    classes:  names of the classes of these detections and objects, in the order of the class map.
    wrong:    kind of error of each detection at the operating point, None for a right one, in the order of the file.
    missed:   whether each object was left out, in the order of the ground truth; crowd regions are not.
    """

    image_id: int
    cost: float
    kinds: dict[str, int]
    classes: tuple[str, ...]
    wrong: tuple[str | None, ...]
    missed: tuple[bool, ...]


def worst_images(
    ground_truth: str | Path,
    predictions: str | Path,
    thresholds: ClassThresholds,
    iou_type: IouType = "bbox",
    *,
    max_detections: int = 100,
    count: int = 24,
) -> list[ImageErrors]:
    """Return the `count` images whose errors cost most AP50, most expensive first, without those that cost nothing.

    thresholds: detections from the threshold of their class on are the ones whose errors are named.

    Other arguments and errors as for `coco_map`.
    """
    truth = read_ground_truth(ground_truth, iou_type)
    found = read_predictions(predictions, truth, iou_type)
    matches = match(truth, found, iou_type, max_detections=max_detections, thresholds=(0.5,))
    costs = image_costs(matches)
    order = np.argsort(-costs, kind="stable")[:count]
    return describe_images(matches, thresholds, costs, order[costs[order] > 0].tolist())


def image_costs(matches: Matches) -> Floats:
    """Return (N,) the AP50 that the errors in each image cost, at the first IoU threshold of the matches.

    >>> from tlvision.evaluation.read import GroundTruth
    >>> box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
    >>> truth = GroundTruth(None, [{"id": 7}, {"id": 8}], [{"id": 3, "name": "cat"}], [box, {**box, "image_id": 8}], 0)
    >>> image_costs(match(truth, [{**box, "score": 0.9}])).round(3)  # nothing is found in image 8
    array([0.   , 0.495])
    """
    costs = np.zeros(len(matches.image_ids))
    ranked = rankings(matches)
    found = np.zeros(len(matches.object_label), bool)
    found[matches.found[matches.found[:, 0] >= 0, 0]] = True
    for ranking in ranked:
        lost = ~found & ~matches.object_crowd & (matches.object_label == ranking.label)
        lost_in = np.bincount(matches.object_image[lost], minlength=len(costs))
        images, gains = _class_gains(ranking, lost_in)
        costs[images] += gains / len(ranked)
    return costs


def _class_gains(ranking: Ranking, lost: Ints) -> tuple[Ints, Floats]:
    """Return the images with errors in a class, and what the AP of the class gains if each alone is repaired.

    lost: (N,) number of objects of the class in each image that no detection found.
    """
    outcome = ranking.outcome[:, 0]
    right, wrong = np.flatnonzero(outcome == 1), np.flatnonzero(outcome == 0)
    before = np.searchsorted(wrong, right)  # wrong detections that rank before each right one
    behind = np.searchsorted(right, wrong)  # the first right detection behind each wrong one
    counted = behind < len(right)  # a wrong detection behind all right ones costs nothing
    image, behind = ranking.image[wrong[counted]], behind[counted]
    images = np.union1d(image, np.flatnonzero(lost))
    needed = _hits_needed(len(ranking.object_image))
    old = _precision_sum(np.zeros((len(right), 1)), before, np.zeros(1, np.int64), needed)
    gains = np.zeros(len(images))
    size = max(1, _AT_A_TIME // (len(right) + 1))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        column = np.minimum(np.searchsorted(part, image), len(part) - 1)
        mine = part[column] == image
        own = np.zeros((len(right), len(part)))
        np.add.at(own, (behind[mine], column[mine]), 1.0)
        repaired = _precision_sum(np.cumsum(own, axis=0, out=own), before, lost[part], needed)
        gains[start : start + size] = (repaired - old) / len(RECALLS)
    return images, np.maximum(gains, 0.0)


def _hits_needed(objects: int) -> Ints:
    """Return how many objects must be found to reach each of RECALLS, at least one."""
    recall = np.arange(objects + 1) / objects
    return np.maximum(np.searchsorted(recall, RECALLS), 1)


def _precision_sum(own: Floats, before: Ints, added: Ints, needed: Ints) -> Floats:
    """Return (B,) the sum of the interpolated precision over RECALLS for B repaired images.

    own:    (R, B) wrong detections of each image that rank before each of the R right detections; overwritten.
    before: (R,) wrong detections of all images that do. added: (B,) detections that rank first and are right.
    needed: as `_hits_needed` returns it.
    """
    hits = np.arange(1, len(own) + 1)[:, None] + added
    seen = np.subtract(hits + before[:, None], own, out=own)
    precision = np.divide(hits, seen, out=own)
    # Interpolated: the best precision at this recall or a higher one.
    np.maximum.accumulate(precision[::-1], axis=0, out=precision[::-1])
    row = needed[:, None] - added - 1  # (recalls, B); below 0 the added detections are enough
    found = np.take_along_axis(precision, np.clip(row, 0, len(own) - 1), axis=0) if len(own) else np.zeros(row.shape)
    result: Floats = np.where(row < 0, 1.0, np.where(row < len(own), found, 0.0)).sum(axis=0)
    return result


def describe_images(
    matches: Matches, thresholds: ClassThresholds, costs: Floats, positions: Sequence[int]
) -> list[ImageErrors]:
    """Return the errors at the operating point in the images at `positions`."""
    kept = above_thresholds(matches, thresholds)
    errors = sort_errors(kept)
    return [_describe(kept, errors, position, float(costs[position])) for position in positions]


def _describe(matches: Matches, errors: Errors, position: int, cost: float) -> ImageErrors:
    detections = np.flatnonzero(matches.image == position)
    detections = detections[np.argsort(matches.row[detections], kind="stable")]
    objects = np.flatnonzero(matches.object_image == position)
    objects = objects[np.argsort(matches.object_row[objects], kind="stable")]
    wrong = [None if kind < 0 else KINDS[kind] for kind in errors.kind[detections].tolist()]
    names = [*(kind for kind in wrong if kind), *[KINDS[-1]] * int(errors.missed[objects].sum())]
    labels = {*matches.label[detections[errors.kind[detections] >= 0]].tolist()}
    labels |= {*matches.object_label[objects[errors.lost[objects]]].tolist()}
    return ImageErrors(
        image_id=int(matches.image_ids[position]),
        cost=cost,
        kinds={kind: names.count(kind) for kind in KINDS if kind in names},
        classes=tuple(matches.names[label] for label in sorted(labels)),
        wrong=tuple(wrong),
        missed=tuple(bool(value) for value in errors.lost[objects]),
    )


def above_thresholds(matches: Matches, thresholds: ClassThresholds) -> Matches:
    """Return the matches of the detections from the threshold of their class on.

    They stay as they were matched: within an image and class, detections choose in the order of their scores.
    """
    kept = matches.score >= thresholds.of(matches.names)[matches.label]
    place = np.cumsum(kept) - 1
    pairs: npt.NDArray[np.bool_] = kept[matches.pair_detection]
    chosen: dict[str, Any] = {
        name: getattr(matches, name)[kept] for name in ("image", "label", "score", "row", "found", "outcome")
    }
    return replace(
        matches,
        **chosen,
        pair_detection=place[matches.pair_detection[pairs]],
        pair_object=matches.pair_object[pairs],
        pair_iou=matches.pair_iou[pairs],
    )
