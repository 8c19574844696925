"""Average precision from matches, with a weight for each image: the basis of error kinds and of the bootstrap.

Source: the interpolated precision at 101 recalls of the COCO evaluation (Lin et al., 2014). Equal to `coco_map`'s with
weights of 1 (tests/golden). An image with weight 2 counts as if it were there twice, one with weight 0 not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.matching import Flags, Floats, Ints, Matches

RECALLS = np.linspace(0, 1, 101)
"""Recall thresholds at which COCO reads the precision."""


def average_precision(matches: Matches, weights: npt.ArrayLike | None = None) -> Floats:
    """Return (B, C, T) average precision of each class and IoU threshold, nan for a class without an object.

    matches: of one set of predictions.
    weights: (B, N) how often each image counts, in B versions of the data; None for one version, every image once.

    >>> from tlvision.evaluation.matching import match
    >>> from tlvision.evaluation.read import GroundTruth
    >>> box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
    >>> truth = GroundTruth(None, [{"id": 7}, {"id": 8}], [{"id": 3, "name": "cat"}], [box, {**box, "image_id": 8}], 0)
    >>> matches = match(truth, [{**box, "score": 0.9}])
    >>> average_precision(matches)[0, 0, 0].round(3), average_precision(matches, [[1, 0]])[0, 0, 0]
    (np.float64(0.505), np.float64(1.0))
    """
    weight = np.ones((1, len(matches.image_ids))) if weights is None else np.asarray(weights, np.float64)
    by_image = np.ascontiguousarray(weight.T)  # (N, B)
    result = np.full((len(weight), len(matches.names), len(matches.thresholds)), np.nan)
    for ranking in rankings(matches):
        result[:, ranking.label] = ranked_ap(ranking, by_image)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The detections of one class over all images, best score first.

    label: class index. image: (R,) position of the image. outcome: (R, T) as in `Matches`. order: (R,) their indices
    in the matches. object_image: (O,) position of the image of each object, without crowd regions.
    """

    label: int
    image: Ints
    outcome: Flags
    order: Ints
    object_image: Ints


def rankings(matches: Matches) -> list[Ranking]:
    """Return the ranking of every class that has an object."""
    # lexsort is stable: of equal scores the first image comes first, as in COCO's merge sort.
    order = np.lexsort((-matches.score, matches.label))
    first = np.searchsorted(matches.label[order], np.arange(len(matches.names) + 1))
    counted = ~matches.object_crowd
    rows = []
    for label in np.flatnonzero(matches.objects).tolist():
        mine = order[first[label] : first[label + 1]]
        images = matches.object_image[counted & (matches.object_label == label)]
        rows.append(Ranking(label, matches.image[mine], matches.outcome[mine], mine, images))
    return rows


def ranked_ap(ranking: Ranking, weights: Floats) -> Floats:
    """Return (B, T) the average precision of one class at each threshold, nan where it has no object.

    weights: (N, B) of each image.
    """
    objects = weights[ranking.object_image].sum(axis=0)  # (B,)
    weight = weights[ranking.image]  # (R, B)
    seen = np.cumsum(weight, axis=0)
    columns = []
    for outcome in ranking.outcome.T:
        ignored = outcome < 0
        counted = seen - np.cumsum(weight * ignored[:, None], axis=0) if ignored.any() else seen
        right = np.flatnonzero(outcome == 1)
        columns.append(_interpolated(np.cumsum(weight[right], axis=0), counted[right], objects))
    return np.stack(columns, axis=1)


def _interpolated(hits: Floats, seen: Floats, objects: Floats) -> Floats:
    """Return (B,) the mean of the interpolated precision over RECALLS.

    hits, seen: (right, B) number of right detections, and of all, up to each right one. objects: (B,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(seen > 0, hits / seen, 0.0)
        recall = np.where(objects > 0, hits / objects, 0.0)
    # Interpolated: the best precision at this recall or a higher one.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # How many of the recalls each right detection reaches, and none before it.
    reached = np.where(hits > 0, _recalls_up_to(recall), 0)
    steps = np.diff(reached, axis=0, prepend=0)
    return np.where(objects > 0, (precision * steps).sum(axis=0) / len(RECALLS), np.nan)


def _recalls_up_to(recall: Floats) -> Ints:
    """Return how many of RECALLS are at most each value: `searchsorted(…, side="right")`, several times as fast."""
    index = np.minimum((recall * 100).astype(np.int64), 100)
    # Rounding may put the product on the wrong side of a recall.
    index += (np.append(RECALLS, np.inf)[index + 1] <= recall).astype(np.int64)
    index -= (RECALLS[index] > recall).astype(np.int64)
    return index + 1
