"""Agreement of several annotators who labelled the same images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.analysis.doctor.label_noise import overlaps
from tlvision.formats.coco.annotators import annotator_of
from tlvision.types import Json, Sample, listing

SAME = 0.5
"""IoU from which two annotators mean one object."""
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two annotators on some images.

    matched: pairs of boxes with an IoU of SAME or more, whatever their classes. same_class: those of equal class.
    boxes:   boxes of both together.
    """

    matched: int
    same_class: int
    boxes: int

    @property
    def f1(self) -> float:
        """Share of boxes that the other annotator has with the same class, 0..1; 1 if neither has a box."""
        return 2 * self.same_class / self.boxes if self.boxes else 1.0


def annotator_agreement(parts: Sequence[Part]) -> list[Finding]:
    """Return how well the annotators of one image agree; the reader notes that their objects count several times."""
    return [finding for part in parts for finding in _of_part(part)]


def agreement(ones: Sequence[Json], others: Sequence[Json]) -> Agreement:
    """Return the agreement of two annotators on one image; the pair of boxes with the highest IoU is matched first.

    >>> box = {"category_id": 1, "bbox": [0, 0, 10, 10]}
    >>> agreement([box], [{**box, "category_id": 2}])
    Agreement(matched=1, same_class=0, boxes=2)
    """
    matched = same = 0
    if ones and others:
        iou = overlaps([row["bbox"] for row in ones], [row["bbox"] for row in others])
        while iou.max() >= SAME:
            first, second = divmod(int(iou.argmax()), iou.shape[1])
            iou[first, :] = iou[:, second] = 0
            matched += 1
            same += ones[first]["category_id"] == others[second]["category_id"]
    return Agreement(matched, same, len(ones) + len(others))


def _of_part(part: Part) -> list[Finding]:
    by_image = [(sample, _by_annotator(part.rows.get(sample.image_id, []))) for sample in part.data.samples]
    shared = [(sample, rows) for sample, rows in by_image if len(rows) > 1]
    if not shared:
        return []
    pairs: dict[tuple[str, str], list[Agreement]] = defaultdict(list)
    scores: list[tuple[float, Sample]] = []
    for sample, rows in shared:
        found = {pair: agreement(rows[pair[0]], rows[pair[1]]) for pair in combinations(sorted(rows), 2)}
        for pair, one in found.items():
            pairs[pair].append(one)
        scores.append((float(np.mean([one.f1 for one in found.values()])), sample))
    total = {pair: _sum(each) for pair, each in pairs.items()}
    return [_measured(part, total, scores)]


def _measured(
    part: Part, total: Mapping[tuple[str, str], Agreement], scores: Sequence[tuple[float, Sample]]
) -> Finding:
    mean = float(np.mean([one.f1 for one in total.values()]))
    matched = sum(one.matched for one in total.values())
    same = sum(one.same_class for one in total.values())
    each = [f"{' and '.join(pair)} {one.f1:.2f}" for pair, one in sorted(total.items(), key=lambda item: item[1].f1)]
    classes = f"; of {matched} objects that two found, {same / matched:.0%} have the same class" if matched else ""
    sentence = (
        f"data.{part.name}: annotators agree with a mean F1 of {mean:.2f} at IoU {SAME} ({listing(each)}){classes}"
    )
    worst = sorted(((value, sample) for value, sample in scores if value < 1), key=lambda item: item[0])[:_SHOWN]
    places = tuple(part.place(sample, score=round(1 - value, 4)) for value, sample in worst)
    return Finding("note", "annotators", sentence, places)


def _by_annotator(rows: Sequence[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        name = annotator_of(row)
        if name is not None and not row.get("iscrowd"):
            found[name].append(row)
    return found


def _sum(found: Sequence[Agreement]) -> Agreement:
    return Agreement(
        sum(one.matched for one in found), sum(one.same_class for one in found), sum(one.boxes for one in found)
    )
