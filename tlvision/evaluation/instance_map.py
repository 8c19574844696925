"""COCO's average precision of boxes and of masks, side by side, from the same two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlvision.evaluation.analysis import Analysis
from tlvision.evaluation.coco_map import coco_map


def instance_map(
    ground_truth: str | Path,
    predictions: str | Path,
    *,
    max_detections: tuple[int, int, int] = (1, 10, 100),
    analysis: Analysis | None = None,
) -> dict[str, Any]:
    """Compute what `coco_map` does for boxes and for masks, and join the two.

    ground_truth: a COCO json file in which every annotation has a box and a mask (polygons or run lengths).
    predictions:  a JSON list of COCO results, each with "bbox" and "segmentation" (run lengths); may be empty. Small,
                  medium and large go by the area of a result's box, for masks as well, as pycocotools has it.
    max_detections, analysis: as for `coco_map`.

    Returns the dict of `coco_map` with these differences:
        task:       "instance"
        protocol:   `hash` is {"bbox": …, "segm": …}: each is that of the number on its own
        bbox, segm: the twelve numbers of each
        per_class:  {name: {"bbox/AP", "bbox/AP50", "bbox/AR100", "segm/AP", …, ground_truths, predictions}}

    Raises InputError in one sentence with file and entry; `tlvision.evaluation.read` lists the checks.
    """
    boxes = coco_map(ground_truth, predictions, iou_type="bbox", max_detections=max_detections, analysis=analysis)
    masks = coco_map(ground_truth, predictions, iou_type="segm", max_detections=max_detections, analysis=analysis)
    kinds = {"bbox": boxes, "segm": masks}
    return {
        "task": "instance",
        "protocol": {
            **boxes["protocol"],
            "iou_type": list(kinds),
            "hash": {kind: metrics["protocol"]["hash"] for kind, metrics in kinds.items()},
        },
        **{kind: metrics[kind] for kind, metrics in kinds.items()},
        "per_class": {name: _row(name, kinds) for name in boxes["per_class"]},
        "absent_classes": boxes["absent_classes"],
        "counts": {**boxes["counts"], **{key: n for key, n in masks["counts"].items() if key == "empty_masks"}},
        **{key: {**boxes[key], **masks[key]} for key in ("analysis", "intervals") if key in boxes},
    }


def _row(name: str, kinds: dict[str, dict[str, Any]]) -> dict[str, float | int | None]:
    """Return one class: the fractions of each kind under "bbox/AP" and so on, the counts, which they share, once."""
    rows = {kind: metrics["per_class"][name] for kind, metrics in kinds.items()}
    counts = ("ground_truths", "predictions")
    fractions = {f"{kind}/{key}": row[key] for kind, row in rows.items() for key in row if key not in counts}
    return {**fractions, **{key: rows["bbox"][key] for key in counts}}
