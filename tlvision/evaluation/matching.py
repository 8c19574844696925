"""Match detections to ground truth once, image by image, for every measure that is more than an average.

Source: the matching of the COCO evaluation (Lin et al., 2014; pycocotools): in an image and class the best score
chooses first, and takes the free object that it overlaps most. Average precision from these matches equals `coco_map`'s
(`tlvision.evaluation.average_precision`, tests/golden). Difference: overlaps with objects of other classes are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.read import GroundTruth, IouType
from tlvision.types import Json

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""COCO's ten thresholds; the first, 0.5, is where operating points, confusion and error kinds are measured."""
LEAST_OVERLAP = 0.1
"""Smallest IoU of a detection and an object that is kept. A detection below it with every object is background."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matches:
    """Detections, objects, and which detection found which object at each IoU threshold.

    D detections lie in the order of their images, then of descending score; G objects in the order of their images. All
    are counted, except detections beyond `max_detections` of an image and class.

    names:      of the C classes, in ascending order of their category ids.
    image_ids:  (N,) ids, ascending; `image` and `object_image` index it.
    thresholds: (T,) IoU thresholds, ascending.
    image:      (D,) position of the image. label: (D,) class index. score: (D,).
    row:        (D,) position of the detection in the file of predictions.
    found:      (D, T) index of the object that a detection found, -1 if it found none.
    outcome:    (D, T) 1 right, 0 wrong, -1 not counted, because it lies in a crowd region.
    object_image, object_label, object_area: (G,) of each object; area in square pixels.
    object_crowd: (G,) whether it is a crowd region, which is never missed.
    object_row: (G,) position of the object in the annotations of the ground truth that are used.
    pair_detection, pair_object, pair_iou: (P,) the pairs of one image with an IoU of at least `LEAST_OVERLAP`,
                whatever their classes.
    """

    names: tuple[str, ...]
    image_ids: Ints
    thresholds: Floats
    image: Ints
    label: Ints
    score: Floats
    row: Ints
    found: npt.NDArray[np.int32]
    outcome: Flags
    object_image: Ints
    object_label: Ints
    object_area: Floats
    object_crowd: npt.NDArray[np.bool_]
    object_row: Ints
    pair_detection: Ints
    pair_object: Ints
    pair_iou: Floats

    @property
    def objects(self) -> Ints:
        """Return (C,) the number of objects of each class, without crowd regions."""
        counts: Ints = np.bincount(self.object_label[~self.object_crowd], minlength=len(self.names))
        return counts


def match(
    truth: GroundTruth,
    results: Sequence[Json],
    iou_type: IouType = "bbox",
    *,
    max_detections: int = 100,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> Matches:
    """Match detections to ground truth as COCO does, for objects of every size.

    truth:          as `read_ground_truth` returns it; boxes x, y, width, height in pixels.
    results:        as `read_predictions` returns them, for the same `iou_type`.
    max_detections: of an image and class; those with the lowest scores are not counted.
    thresholds:     ascending IoU thresholds above 0, up to 1. Error kinds need a first one above `LEAST_OVERLAP`.

    Example: see `tlvision.evaluation.average_precision.average_precision`.
    """
    categories = sorted(truth.categories, key=lambda row: row["id"])
    label_of = {row["id"]: index for index, row in enumerate(categories)}
    image_ids = np.unique([image["id"] for image in truth.images])
    image_of = {int(number): index for index, number in enumerate(image_ids)}
    objects = _Rows.of(truth.annotations, image_of, label_of)
    detections = _Rows.of(results, image_of, label_of).by_score([row["score"] for row in results], max_detections)
    crowd = np.array([bool(row["iscrowd"]) for row in truth.annotations], bool)[objects.row]
    mine, theirs = [results[row] for row in detections.row], [truth.annotations[row] for row in objects.row]
    shapes: tuple[Any, Any] = (
        (_boxes(mine), _boxes(theirs))
        if iou_type == "bbox"
        else (_masks(mine, truth.images), _masks(theirs, truth.images))
    )
    least = min(LEAST_OVERLAP, thresholds[0])
    pairs = _pairs(detections, objects, shapes, crowd, least)
    found = _assign(pairs, detections.label, objects.label, crowd, np.asarray(thresholds, np.float64))
    outcome = np.where(found < 0, 0, np.where(np.append(crowd, False)[found], -1, 1)).astype(np.int8)
    return Matches(
        names=tuple(str(row["name"]) for row in categories),
        image_ids=image_ids.astype(np.int64),
        thresholds=np.asarray(thresholds, np.float64),
        image=detections.image,
        label=detections.label,
        score=np.array([row["score"] for row in results], np.float64)[detections.row],
        row=detections.row,
        found=found,
        outcome=outcome,
        object_image=objects.image,
        object_label=objects.label,
        object_area=np.array([row["area"] for row in truth.annotations], np.float64)[objects.row],
        object_crowd=crowd,
        object_row=objects.row,
        pair_detection=pairs.detection,
        pair_object=pairs.object,
        pair_iou=pairs.iou,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Image, class and position in the file of some rows, in the order of their images."""

    image: Ints
    label: Ints
    row: Ints

    @classmethod
    def of(cls, rows: Sequence[Json], image_of: dict[int, int], label_of: dict[int, int]) -> _Rows:
        image = np.array([image_of[row["image_id"]] for row in rows], np.int64)
        label = np.array([label_of[row["category_id"]] for row in rows], np.int64)
        order = np.argsort(image, kind="stable")
        return cls(image[order], label[order], order)

    def by_score(self, scores: Sequence[float], most: int) -> _Rows:
        """Return the rows of each image in descending order of score, at most `most` of an image and class."""
        score = np.asarray(scores, np.float64)[self.row]
        order = np.lexsort((-score, self.label, self.image))  # stable: equal scores keep the order of the file
        group = self.image[order] * (self.label.max(initial=0) + 1) + self.label[order]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        rank = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
        kept = order[rank < most]
        kept = kept[np.lexsort((-score[kept], self.image[kept]))]
        return _Rows(self.image[kept], self.label[kept], self.row[kept])


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Overlapping pairs; see `Matches`."""

    detection: Ints
    object: Ints
    iou: Floats


def _pairs(
    detections: _Rows, objects: _Rows, shapes: tuple[Any, Any], crowd: npt.NDArray[np.bool_], least: float
) -> _Pairs:
    """Return the pairs of each image with an IoU of at least `least`, in the order of the detections.

    shapes: of the detections and of the objects. The IoU with a crowd region is the part of the detection that lies
    inside it, as COCO has it.
    """
    from faster_coco_eval import mask as rle

    images = max(detections.image.max(initial=-1), objects.image.max(initial=-1)) + 1
    first, last = _bounds(detections.image, images)
    first_object, last_object = _bounds(objects.image, images)
    parts: list[tuple[Any, Any, Any]] = []
    for image in np.flatnonzero((last > first) & (last_object > first_object)).tolist():
        mine, theirs = slice(first[image], last[image]), slice(first_object[image], last_object[image])
        iou = rle.iou(shapes[0][mine], shapes[1][theirs], crowd[theirs].astype(np.uint8).tolist())
        iou = np.asarray(iou, np.float64).reshape(mine.stop - mine.start, -1)  # (detections, objects) of the image
        rows, columns = np.nonzero(iou >= least)
        parts.append((rows + mine.start, columns + theirs.start, iou[rows, columns]))
    if not parts:
        return _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return _Pairs(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _bounds(image: Ints, images: int) -> tuple[Ints, Ints]:
    """Return the first row of each image and the one after its last."""
    numbers = np.arange(images)
    return np.searchsorted(image, numbers, "left"), np.searchsorted(image, numbers, "right")


def _boxes(rows: Sequence[Json]) -> npt.NDArray[np.float64]:
    """Return (R, 4) boxes x, y, width, height."""
    return np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)


def _masks(rows: Sequence[Json], images: Sequence[Json]) -> list[Any]:
    """Return run-length masks, rasterised as COCO does."""
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in images}
    return [_run_lengths(row["segmentation"], *sizes[row["image_id"]]) for row in rows]


def _run_lengths(segment: Any, height: Any, width: Any) -> Any:
    from faster_coco_eval import mask as rle

    if isinstance(segment, list):  # polygons
        return rle.merge(rle.frPyObjects(segment, height, width))
    return rle.frPyObjects(segment, height, width) if isinstance(segment["counts"], list) else segment


def _assign(
    pairs: _Pairs, label: Ints, object_label: Ints, crowd: npt.NDArray[np.bool_], thresholds: Floats
) -> npt.NDArray[np.int32]:
    """Return (D, T) the object of each detection at each threshold, -1 for none."""
    found = np.full((len(label), len(thresholds)), -1, np.int32)
    same = (label[pairs.detection] == object_label[pairs.object]) & (pairs.iou >= thresholds[0])
    candidates: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for detection, number, iou in zip(
        pairs.detection[same].tolist(), pairs.object[same].tolist(), pairs.iou[same].tolist(), strict=True
    ):
        candidates[detection].append((iou, number))
    is_crowd = crowd.tolist()
    for column, threshold in enumerate(thresholds.tolist()):
        least = min(threshold, 1 - 1e-10)  # as COCO: a box equal to its object is found at threshold 1
        taken: set[int] = set()
        # Detections come by descending score within an image, and objects of other images are never among them.
        for detection, overlaps in candidates.items():
            best, best_iou, best_crowd = -1, least, True
            for iou, number in overlaps:
                if number in taken or iou < least:
                    continue
                # An object goes before a crowd region; of equal overlaps COCO takes the last.
                if (best_crowd and not is_crowd[number]) or (iou >= best_iou and is_crowd[number] == best_crowd):
                    best, best_iou, best_crowd = number, iou, is_crowd[number]
            if best >= 0:
                found[detection, column] = best
                if not best_crowd:
                    taken.add(best)
    return found
