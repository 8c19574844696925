"""Measure predictions as pseudo-labels: precision, recall and number for each class, over score thresholds.

Source: what Liu et al., Unbiased Teacher, 2021, and Xu et al., SoftTeacher, 2021, plot to choose their thresholds. The
matching is COCO's at one IoU (Lin et al., 2014), except that the objects of an image are not cut off at 100: a teacher
uses all of its predictions above the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.evaluation.matching import match
from tlvision.evaluation.read import GroundTruth, read_ground_truth, read_predictions
from tlvision.types import InputError, Json

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def pseudo_label_quality(
    ground_truth: str | Path,
    predictions: str | Path,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    iou: float = 0.5,
) -> dict[str, Any]:
    """Measure a teacher's predictions as pseudo-labels at several score thresholds.

    ground_truth: a COCO json, as for `coco_map`.
    predictions:  a JSON list of COCO results with its image and category ids; may be empty.
    thresholds:   ascending scores, 0..1; a prediction is a pseudo-label from that score on.
    iou:          0 < iou <= 1: a pseudo-label is right where it overlaps an object of its class at least so much. The
                  best score chooses first, and takes the object that it overlaps most. One that only fits a crowd
                  region (iscrowd 1) is neither right nor wrong; it is not counted.

    Returns a dict for a JSON file:
        iou, thresholds: as given
        counts:          images, ground_truths (crowd not included), predictions
        per_class:       {name: {"ground_truths": n, "thresholds": [row, …]}} in the order of the file
        all:             a list of rows, over all classes together (not a mean over them)
    with a row for each threshold: threshold, pseudo_labels, right, precision (right / pseudo_labels), recall (right /
    ground truths), mean_iou (of the right ones); in 0..1, None if there is nothing to measure.

    Raises InputError for thresholds or an iou outside 0..1, and for bad files as `tlvision.evaluation.read` does: no
    json, an image id or class id that the ground truth does not have.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40]}
    >>> truth = {"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": [{"id": 1, **box}]}
    >>> _ = (folder / "gt.json").write_text(json.dumps(truth))
    >>> found = [{**box, "score": 0.9}, {**box, "bbox": [90, 90, 9, 9], "score": 0.4}]
    >>> _ = (folder / "predictions.json").write_text(json.dumps(found))
    >>> quality = pseudo_label_quality(folder / "gt.json", folder / "predictions.json", thresholds=[0.3, 0.5])
    >>> [(row["pseudo_labels"], row["precision"], row["recall"]) for row in quality["per_class"]["cat"]["thresholds"]]
    [(2, 0.5, 1.0), (1, 1.0, 1.0)]
    """
    check_thresholds(thresholds)
    if not 0 < iou <= 1:
        raise InputError(f"pseudo_label_quality: expected an iou above 0 and up to 1, got {iou}")
    truth = read_ground_truth(ground_truth)
    results = read_predictions(predictions, truth)
    tallies = _match(truth, results, iou)
    together = _Tally()
    for tally in tallies.values():
        together.add(tally)
    return {
        "iou": float(iou),
        "thresholds": [float(value) for value in thresholds],
        "counts": {"images": len(truth.images), "ground_truths": together.objects, "predictions": len(results)},
        "per_class": {
            category["name"]: {
                "ground_truths": tallies[category["name"]].objects,
                "thresholds": [tallies[category["name"]].row(value) for value in thresholds],
            }
            for category in truth.categories
        },
        "all": [together.row(value) for value in thresholds],
    }


def format_quality(quality: dict[str, Any]) -> str:
    """Return what `pseudo_label_quality` returns as text: a block for each class with ground truth or predictions.

    >>> row = {"threshold": 0.5, "pseudo_labels": 2, "right": 1, "precision": 0.5, "recall": None, "mean_iou": 0.75}
    >>> print(format_quality({"iou": 0.5, "per_class": {}, "all": [row]}))
    all classes, IoU 0.5
      threshold  pseudo-labels  precision  recall  mean IoU
           0.50              2      0.500       -     0.750
    """
    unit = quality.get("unit", "objects")
    blocks = [("all classes, " + (unit if quality["iou"] is None else f"IoU {quality['iou']:g}"), quality["all"])]
    for name, found in quality["per_class"].items():
        if found["ground_truths"] or any(row["pseudo_labels"] for row in found["thresholds"]):
            blocks.append((f"{name}, {found['ground_truths']} {unit}", found["thresholds"]))
    header = "  threshold  pseudo-labels  precision  recall  mean IoU"
    return "\n\n".join("\n".join([title, header, *map(_line, rows)]) for title, rows in blocks)


def _line(row: dict[str, Any]) -> str:
    precision, recall, overlap = (
        "-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "mean_iou")
    )
    return f"  {row['threshold']:>9.2f}  {row['pseudo_labels']:>13}  {precision:>9}  {recall:>6}  {overlap:>8}"


@dataclass(slots=True)
class _Tally:
    """Score and IoU of each counted prediction of one class (IoU 0: wrong)."""

    objects: int = 0
    scores: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)

    def add(self, other: _Tally) -> None:
        self.objects += other.objects
        self.scores += other.scores
        self.overlaps += other.overlaps

    def row(self, threshold: float) -> dict[str, float | int | None]:
        """Cutting at a threshold takes away the predictions that chose last, so that one matching serves all."""
        overlaps = np.asarray(self.overlaps)[np.asarray(self.scores) >= threshold] if self.scores else np.zeros(0)
        right = overlaps[overlaps > 0]
        return {
            "threshold": float(threshold),
            "pseudo_labels": len(overlaps),
            "right": len(right),
            "precision": len(right) / len(overlaps) if len(overlaps) and self.objects else None,
            "recall": len(right) / self.objects if self.objects else None,
            "mean_iou": float(right.mean()) if len(right) else None,
        }


def _match(truth: GroundTruth, results: list[Json], iou: float) -> dict[str, _Tally]:
    matches = match(truth, results, max_detections=max(1, len(results)), thresholds=(iou,))
    overlap = np.zeros(len(matches.label))
    right = matches.found[matches.pair_detection, 0] == matches.pair_object
    overlap[matches.pair_detection[right]] = matches.pair_iou[right]
    counted = matches.outcome[:, 0] >= 0
    tallies = {}
    for label, (name, objects) in enumerate(zip(matches.names, matches.objects.tolist(), strict=True)):
        mine = counted & (matches.label == label)
        tallies[name] = _Tally(objects, matches.score[mine].tolist(), overlap[mine].tolist())
    return tallies


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise InputError unless they are ascending and in 0..1."""
    ascending = list(thresholds) == sorted(set(thresholds))
    if not thresholds or not ascending or not 0 <= thresholds[0] <= thresholds[-1] <= 1:
        raise InputError(
            f"pseudo_label_quality: expected ascending thresholds in 0..1, such as 0.1 … 0.9, got {list(thresholds)}"
        )
