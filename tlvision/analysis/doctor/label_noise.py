"""Labels that the predictions of a model contradict, ranked.

Sources: Tkachenko et al., ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection Data, 2023:
overlooked objects, swapped classes and badly placed boxes, from the predictions of any detector; Northcutt et al.,
Confident Learning, 2021: a prediction is confident if its score reaches the mean score of its class on the objects of
that class. Differences: single objects are ranked instead of images; 0.8 of that mean is enough; overlap is IoU,
without the distance of the centres; two more kinds, labels that nothing corresponds to and labels around several
objects. Written from the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.matching import Floats, Ints, Matches, match
from tlvision.evaluation.read import GroundTruth
from tlvision.types import Json

KINDS = ("missing", "class", "group", "box", "nothing")
"""No label where there is an object; a label of another class; one box around several objects; a badly placed box; a
label without an object."""
CONFIDENT = 0.8
"""A prediction is confident if its score reaches this share of the mean score of its class. The paper's is 1; 0.8 lists
a quarter more of planted errors, and the first ones are as often right (tools/bench.py label_noise)."""
SAME = 0.5
"""IoU from which a prediction and a label are of one object."""
APART = 0.3
"""IoU below which they are not, and from which a label of the right class is badly placed."""
WELL_PLACED = 0.6
INSIDE = 0.8
"""Share of a prediction that lies in a label around several objects."""
BESIDE = 0.1
"""IoU below which two predictions are of two objects next to each other."""
UNSEEN = 0.25
"""A label without an object: no prediction there has this share of the mean score of its class."""
_NEIGHBOURS = 20
"""Objects of the class and of similar size whose mean score says what is expected of a label."""
MAX_DETECTIONS = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One suspicious label, or a place without one.

    kind:      one of KINDS. score: 0..1, the higher the more suspicious; comparable within a kind.
    image_id:  of the image. row: position in the annotations that were given, None for a missing label.
    label:     class index of the label, None for a missing one.
    predicted: class index of the prediction and box: x, y, width, height of it in pixels; None for "nothing".
    """

    kind: str
    score: float
    image_id: int
    row: int | None = None
    label: int | None = None
    predicted: int | None = None
    box: tuple[float, float, float, float] | None = None


def label_noise(
    names: tuple[str, ...], image_ids: list[int], labels: list[Json], predictions: list[Json]
) -> list[Candidate]:
    """Return suspicious labels of one dataset, most suspicious first within each of KINDS.

    names:       of the classes.
    labels:      {"image_id", "category_id": class index, "bbox": x, y, width, height in pixels, "iscrowd"} of each.
    predictions: the same with "score" instead of "iscrowd", down to scores near 0.

    An object has one kind, the first that applies in the order class, group, box, nothing.

    >>> label = {"image_id": 7, "category_id": 0, "bbox": [10, 10, 40, 40], "iscrowd": 0}
    >>> found = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}
    >>> [(each.kind, round(each.score, 2)) for each in label_noise(("cat", "dog"), [7], [label], [found])]
    [('class', 0.9)]
    """
    if not image_ids:
        return []
    truth = GroundTruth(
        Path(),
        [{"id": number} for number in image_ids],
        [{"id": index, "name": name} for index, name in enumerate(names)],
        [{**row, "area": row["bbox"][2] * row["bbox"][3]} for row in labels],
        areas_from_boxes=0,
    )
    matches = match(truth, predictions, max_detections=MAX_DETECTIONS, thresholds=(SAME,))
    evidence = _Evidence.of(matches, predictions)
    taken = matches.object_crowd.copy()
    found = _missing(matches, evidence, predictions)
    for kind, search in (("class", _classes), ("group", _groups), ("box", _boxes), ("nothing", _nothing)):
        more = search(matches, evidence, taken)
        taken[[number for number, _, _ in more]] = True
        found += [_candidate(kind, matches, predictions, each) for each in more]
    return sorted(found, key=lambda each: (KINDS.index(each.kind), -each.score))


_Found = list[tuple[int, float, int]]
"""Object, suspicion and detection (-1 for none) of each candidate."""


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """Measures of the detections and objects of `Matches`.

    confident:   (D,) whether the score reaches CONFIDENT of the mean of its class.
    self_score:  (G,) best score of the label's class with an IoU of SAME.
    class_score: (C,) its mean over the objects of a class, 0 without an object.
    boxes:       (D, 4) x, y, width, height.
    """

    confident: npt.NDArray[np.bool_]
    self_score: Floats
    class_score: Floats
    boxes: Floats

    @classmethod
    def of(cls, matches: Matches, predictions: list[Json]) -> _Evidence:
        detection, number = matches.pair_detection, matches.pair_object
        same = (matches.label[detection] == matches.object_label[number]) & (matches.pair_iou >= SAME)
        self_score = np.zeros(len(matches.object_label))
        np.maximum.at(self_score, number[same], matches.score[detection[same]])
        real = ~matches.object_crowd
        classes = len(matches.names)
        total = np.bincount(matches.object_label[real], self_score[real], classes)
        count = np.bincount(matches.object_label[real], minlength=classes)
        mean = np.divide(total, count, out=np.zeros(classes), where=count > 0)
        # A class without a labelled object that is found has no mean: the mean of the others holds.
        least = np.where(mean > 0, mean, mean[mean > 0].mean() if (mean > 0).any() else SAME)
        boxes = np.array([predictions[row]["bbox"] for row in matches.row.tolist()], np.float64).reshape(-1, 4)
        return cls(matches.score >= CONFIDENT * least[matches.label], self_score, mean, boxes)


def _missing(matches: Matches, evidence: _Evidence, predictions: list[Json]) -> list[Candidate]:
    """Return confident detections that no label overlaps, the best of those that overlap each other."""
    closest = np.zeros(len(matches.label))
    np.maximum.at(closest, matches.pair_detection, matches.pair_iou)
    lone = np.flatnonzero(evidence.confident & (matches.outcome[:, 0] == 0) & (closest < APART))
    kept: dict[int, list[int]] = {}
    for one in lone[np.argsort(-matches.score[lone], kind="stable")].tolist():
        others = kept.setdefault(int(matches.image[one]), [])
        if not others or float(overlaps(evidence.boxes[[one]], evidence.boxes[others]).max()) < SAME:
            others.append(one)
    return [
        Candidate(
            "missing",
            float(matches.score[one]),
            int(matches.image_ids[image]),
            predicted=int(matches.label[one]),
            box=tuple(predictions[matches.row[one]]["bbox"]),
        )
        for image, found in kept.items()
        for one in found
    ]


def _classes(matches: Matches, evidence: _Evidence, taken: npt.NDArray[np.bool_]) -> _Found:
    """Return labels where a class other than theirs is predicted with more confidence."""
    detection, number = matches.pair_detection, matches.pair_object
    other = (matches.label[detection] != matches.object_label[number]) & (matches.pair_iou >= SAME)
    wrong = other & evidence.confident[detection] & (matches.outcome[detection, 0] == 0) & ~taken[number]
    wrong &= matches.score[detection] > evidence.self_score[number]
    doubt = matches.score[detection] * (1 - evidence.self_score[number])
    return _best(number[wrong], doubt[wrong], detection[wrong])


def _boxes(matches: Matches, evidence: _Evidence, taken: npt.NDArray[np.bool_]) -> _Found:
    """Return labels that a confident detection of their class overlaps in part, and none well."""
    detection, number, iou = matches.pair_detection, matches.pair_object, matches.pair_iou
    same = matches.label[detection] == matches.object_label[number]
    closest = np.zeros(len(matches.label))
    np.maximum.at(closest, detection[same], iou[same])
    well = (
        same & (iou >= WELL_PLACED) & (matches.score[detection] >= evidence.class_score[matches.label[detection]] / 2)
    )
    placed = taken.copy()
    placed[number[well]] = True
    badly = same & evidence.confident[detection] & (iou >= APART) & (iou < WELL_PLACED) & (iou == closest[detection])
    badly &= ~placed[number]
    return _best(number[badly], (matches.score[detection] * (1 - iou))[badly], detection[badly])


def _groups(matches: Matches, evidence: _Evidence, taken: npt.NDArray[np.bool_]) -> _Found:
    """Return labels with two confident detections of their class inside, next to each other, that have no own label."""
    detection, number, iou = matches.pair_detection, matches.pair_object, matches.pair_iou
    own = np.zeros(len(matches.label))
    np.maximum.at(own, detection, iou)
    inside = (matches.label[detection] == matches.object_label[number]) & evidence.confident[detection]
    inside &= (iou < WELL_PLACED) & (own[detection] < WELL_PLACED) & ~taken[number]
    area = evidence.boxes[:, 2] * evidence.boxes[:, 3]
    whole = matches.object_area[number]
    shared = iou / (1 + iou) * (area[detection] + whole)
    inside &= shared >= INSIDE * area[detection]
    found = []
    for one in np.unique(number[inside]).tolist():
        members = detection[inside & (number == one)]
        members = members[np.argsort(-matches.score[members], kind="stable")]
        second = np.flatnonzero(overlaps(evidence.boxes[members[:1]], evidence.boxes[members])[0] < BESIDE)
        if len(second):
            found.append((one, float(matches.score[members[second[0]]]), int(members[0])))
    return found


def _nothing(matches: Matches, evidence: _Evidence, taken: npt.NDArray[np.bool_]) -> _Found:
    """Return labels with hardly any detection, whatever its class, where objects of their class and size are found."""
    best = np.zeros(len(matches.object_label))
    np.maximum.at(best, matches.pair_object, matches.score[matches.pair_detection])
    unseen = ~taken & (best < UNSEEN * evidence.class_score[matches.object_label])
    found = []
    for one in np.flatnonzero(unseen).tolist():
        alike = np.flatnonzero((matches.object_label == matches.object_label[one]) & ~matches.object_crowd)
        alike = alike[alike != one]
        distance = np.abs(np.log(matches.object_area[alike] / matches.object_area[one]))
        near = alike[np.argsort(distance, kind="stable")[:_NEIGHBOURS]]
        expected = float(evidence.self_score[near].mean()) if len(near) else 0.0
        if expected > best[one]:
            found.append((one, expected - float(best[one]), -1))
    return found


def _candidate(kind: str, matches: Matches, predictions: list[Json], found: tuple[int, float, int]) -> Candidate:
    number, score, detection = found
    known = detection >= 0
    return Candidate(
        kind,
        score,
        int(matches.image_ids[matches.object_image[number]]),
        row=int(matches.object_row[number]),
        label=int(matches.object_label[number]),
        predicted=int(matches.label[detection]) if known else None,
        box=tuple(predictions[matches.row[detection]]["bbox"]) if known else None,
    )


def _best(number: Ints, score: Floats, detection: Ints) -> _Found:
    """Return the pair with the highest score of each object."""
    order = np.argsort(-score, kind="stable")
    objects, first = np.unique(number[order], return_index=True)
    chosen = order[first]
    return list(zip(objects.tolist(), score[chosen].tolist(), detection[chosen].tolist(), strict=True))


def overlaps(ones: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    """Return the IoU of boxes x, y, width, height with others, (N, M)."""
    from faster_coco_eval import mask as rle

    first, second = np.asarray(ones, np.float64), np.asarray(others, np.float64)
    return np.asarray(rle.iou(first, second, [0] * len(second)), np.float64).reshape(len(first), -1)
