"""COCO's mean average precision from two files: ground truth and predictions in, the twelve numbers out.

Source: Lin et al., Microsoft COCO: Common Objects in Context, 2014, and the evaluation code published with it
(pycocotools), which faster-coco-eval computes in C++. The numbers agree with pycocotools to 1e-9 (tests/golden).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.analysis import Analysis
from tlvision.evaluation.bootstrap import intervals
from tlvision.evaluation.matching import match
from tlvision.evaluation.object_analysis import analyse_objects, size_ranges
from tlvision.evaluation.per_image import ObjectsPerImage
from tlvision.evaluation.protocol import protocol_hash
from tlvision.evaluation.read import GroundTruth, IouType, read_ground_truth, read_predictions
from tlvision.types import InputError, Json

_AREAS = ("", "s", "m", "l")
"""The suffix of a metric in the order of the evaluator's area ranges: all, small, medium, large."""
_LARGEST_AREA = 1e10
_RECORDS = 50_000
"""Images times classes that are evaluated at a time."""


def coco_map(
    ground_truth: str | Path,
    predictions: str | Path,
    *,
    iou_type: IouType = "bbox",
    max_detections: tuple[int, int, int] = (1, 10, 100),
    analysis: Analysis | None = None,
) -> dict[str, Any]:
    """Compute COCO average precision and recall of `predictions` against `ground_truth`.

    ground_truth:   a COCO json file; boxes x, y, width, height in pixels. Images without objects count: a prediction
                    there is a false positive. Crowd regions (iscrowd 1) neither reward nor punish. `area` decides
                    small/medium/large; if it is missing, width * height of the box is used.
    predictions:    a JSON list of COCO results with the image and category ids of `ground_truth`; may be empty.
    iou_type:       "bbox" compares boxes, "segm" compares masks.
    max_detections: how many results per image and class count, best scores first, ascending.
    analysis:       also return what average precision does not say.

    Returns a dict for a JSON file; each metric is in 0..1, or None if there is nothing to measure (COCO's -1):
        task:           "detect"
        protocol:       thresholds, area ranges, max_detections, library and version, and `hash` of those that change
                        the number: results with unequal hashes are not comparable
        bbox (or segm): AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, APs, APm, APl (areas < 32**2, < 96**2 and above),
                        AR1, AR10, AR100 (named after max_detections), ARs, ARm, ARl; means over the classes that have
                        ground truth
        per_class:      {name: {AP, AP50, AR100, ground_truths, predictions}} in the order of the file
        absent_classes: names without ground truth (or with crowd regions only), which are left out of every mean
        counts:         images, ground_truths (crowd not included), crowd, predictions, areas_from_boxes: objects
                        without `area` in the file, and lowest_score of the predictions
        analysis:       only with `analysis`: {iou_type: …} with the keys of `analyse_objects`, and `sizes`: AP and AP50
                        of the smallest quarter of the objects, the next one, and so on, as a list of {from, to (side in
                        pixels: square root of the area), objects, AP, AP50}
        intervals:      only with `analysis.resamples`: {"bbox/AP": [low, high], …}

    Raises InputError in one sentence with file and entry; `tlvision.evaluation.read` lists the checks.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40]}
    >>> truth = {"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": [{"id": 1, **box}]}
    >>> _ = (folder / "gt.json").write_text(json.dumps(truth))
    >>> _ = (folder / "predictions.json").write_text(json.dumps([{**box, "score": 0.9}]))
    >>> metrics = coco_map(folder / "gt.json", folder / "predictions.json")
    >>> metrics["bbox"]["AP"], metrics["bbox"]["APs"], metrics["counts"]["predictions"]
    (1.0, None, 1)
    """
    _check_arguments(iou_type, max_detections)
    truth = read_ground_truth(ground_truth, iou_type)
    results = read_predictions(predictions, truth, iou_type)
    ranges = size_ranges(np.array([row["area"] for row in truth.annotations if not row["iscrowd"]], np.float64))
    evaluator = _evaluate(truth, results, iou_type, max_detections, ranges if analysis else ())
    precision, recall = evaluator.precision, evaluator.recall
    per_class = _per_class(truth, results, precision, recall, max_detections[-1])
    return {
        "task": "detect",
        "protocol": _protocol(evaluator.params, iou_type),
        iou_type: _twelve(precision, recall, max_detections),
        "per_class": per_class,
        "absent_classes": [name for name, row in per_class.items() if row["ground_truths"] == 0],
        "counts": _counts(truth, results, max_detections[-1]),
        **({} if analysis is None else _analyse(truth, results, iou_type, evaluator, analysis)),
    }


def _analyse(
    truth: GroundTruth, results: list[Json], iou_type: IouType, evaluator: _Accumulated, analysis: Analysis
) -> dict[str, Any]:
    matches = match(truth, results, iou_type, max_detections=int(evaluator.params.maxDets[-1]))
    areas = matches.object_area[~matches.object_crowd]
    sizes = []
    for position, (low, high) in list(enumerate(evaluator.params.areaRng))[len(_AREAS) :]:
        precision = evaluator.precision[:, :, :, position, -1]
        sizes.append(
            {
                "from": round(low**0.5, 2),
                "to": None if high >= _LARGEST_AREA else round(high**0.5, 2),
                "objects": int(((areas >= low) & (areas <= high)).sum()),
                "AP": _mean(precision),
                "AP50": _mean(precision[0]),
            }
        )
    found = {"sizes": sizes, **analyse_objects(matches, analysis)}
    ranges = intervals(ObjectsPerImage({iou_type: matches}), analysis.resamples)
    return {"analysis": {iou_type: found}, **ranges}


def measurable(
    ground_truth: str | Path, *, iou_type: IouType = "bbox", max_detections: tuple[int, int, int] = (1, 10, 100)
) -> frozenset[str]:
    """Return which of the twelve numbers `coco_map` can measure on a file: those with ground truth.

    Arguments and errors as for `coco_map`, so that what an evaluation refuses can be refused before a training.
    """
    _check_arguments(iou_type, max_detections)
    evaluator = _evaluate(read_ground_truth(ground_truth, iou_type), [], iou_type, max_detections)
    numbers = _twelve(evaluator.precision, evaluator.recall, max_detections)
    return frozenset(name for name, value in numbers.items() if value is not None)


def three_limits(most: int) -> tuple[int, int, int]:
    """Return `max_detections` for `coco_map` with `most` as its highest, and COCO's other two where they are lower.

    >>> three_limits(100), three_limits(300), three_limits(5)
    ((1, 10, 100), (1, 10, 300), (1, 2, 5))
    """
    if most < 3:
        raise InputError(f"max_detections: expected 3 or more, got {most}")
    return (1, 10, most) if most > 10 else (1, min(2, most - 1), most)


def _check_arguments(iou_type: str, max_detections: tuple[int, ...]) -> None:
    if iou_type not in ("bbox", "segm"):
        raise InputError(f"coco_map: expected iou_type 'bbox' or 'segm', got '{iou_type}'")
    ascending = len(set(max_detections)) == 3 and sorted(max_detections) == list(max_detections)
    if not ascending or max_detections[0] < 1:
        raise InputError(
            f"coco_map: expected three ascending max_detections such as (1, 10, 100), got {max_detections}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Accumulated:
    """What the evaluator accumulates over the images; -1 where a class has no ground truth of that area.

    precision: (T IoU thresholds, R recall thresholds, K classes by ascending id, A areas, M max_detections).
    recall:    (T, K, A, M). params: of the evaluator.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    params: Any


def _evaluate(
    truth: GroundTruth,
    results: list[Json],
    iou_type: IouType,
    max_detections: tuple[int, int, int],
    size_ranges: Sequence[tuple[float, float]] = (),
) -> _Accumulated:
    """Return the evaluator's results, with `size_ranges` of the area after COCO's own four ranges."""
    # Imported here, so that `import tlvision.evaluation` stays light.
    from faster_coco_eval import COCO, COCOeval_faster

    shared = {"images": truth.images, "categories": truth.categories}
    objects, detections = COCO({**shared, "annotations": truth.annotations}), COCO({**shared, "annotations": results})
    classes = sorted(category["id"] for category in truth.categories)
    # A few classes at a time: the evaluator keeps a record of every image and class until it accumulates.
    step = max(1, _RECORDS // max(1, len(truth.images)))
    parts = []
    for first in range(0, max(1, len(classes)), step):
        evaluator = COCOeval_faster(objects, detections, iouType=iou_type)
        evaluator.params.catIds = classes[first : first + step]
        evaluator.params.maxDets = list(max_detections)
        evaluator.params.areaRng = [*evaluator.params.areaRng, *map(list, size_ranges)]
        evaluator.evaluate()
        evaluator.accumulate()
        parts.append(_Accumulated(evaluator.eval["precision"], evaluator.eval["recall"], evaluator.params))
    return _Accumulated(
        np.concatenate([part.precision for part in parts], axis=2),
        np.concatenate([part.recall for part in parts], axis=1),
        parts[0].params,
    )


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    measured = values[values > -1]
    return float(np.mean(measured)) if measured.size else None


def _twelve(
    precision: npt.NDArray[np.float64], recall: npt.NDArray[np.float64], max_detections: tuple[int, int, int]
) -> dict[str, float | None]:
    numbers = {"AP": _mean(precision[:, :, :, 0, -1])}
    numbers["AP50"] = _mean(precision[0, :, :, 0, -1])
    numbers["AP75"] = _mean(precision[5, :, :, 0, -1])
    for area in (1, 2, 3):
        numbers[f"AP{_AREAS[area]}"] = _mean(precision[:, :, :, area, -1])
    for position, count in enumerate(max_detections):
        numbers[f"AR{count}"] = _mean(recall[:, :, 0, position])
    for area in (1, 2, 3):
        numbers[f"AR{_AREAS[area]}"] = _mean(recall[:, :, area, -1])
    return numbers


def _per_class(
    truth: GroundTruth,
    results: list[Json],
    precision: npt.NDArray[np.float64],
    recall: npt.NDArray[np.float64],
    most: int,
) -> dict[str, dict[str, float | int | None]]:
    column = {number: k for k, number in enumerate(sorted(category["id"] for category in truth.categories))}
    objects, predicted = dict.fromkeys(column, 0), dict.fromkeys(column, 0)
    for annotation in truth.annotations:
        objects[annotation["category_id"]] += 1 - annotation["iscrowd"]
    for result in results:
        predicted[result["category_id"]] += 1
    rows: dict[str, dict[str, float | int | None]] = {}
    for category in truth.categories:
        number = category["id"]
        k = column[number]
        rows[category["name"]] = {
            "AP": _mean(precision[:, :, k, 0, -1]),
            "AP50": _mean(precision[0, :, k, 0, -1]),
            f"AR{most}": _mean(recall[:, k, 0, -1]),
            "ground_truths": objects[number],
            "predictions": predicted[number],
        }
    return rows


def _counts(truth: GroundTruth, results: list[Json], most: int) -> dict[str, int | float]:
    crowd = sum(annotation["iscrowd"] for annotation in truth.annotations)
    return {
        "images": len(truth.images),
        "ground_truths": len(truth.annotations) - crowd,
        "crowd": crowd,
        "predictions": len(results),
        "areas_from_boxes": truth.areas_from_boxes,
        **({"lowest_score": min(row["score"] for row in results)} if results else {}),
        **({"unusable": truth.unusable} if truth.unusable else {}),
        **({"empty_masks": truth.empty_masks} if truth.empty_masks else {}),
        **({"repeated": truth.repeated} if truth.repeated else {}),
        **_crowded(truth, most),
    }


def _crowded(truth: GroundTruth, most: int) -> dict[str, int]:
    """Return how many objects cannot be found because an image has more of a class than detections are counted."""
    objects = Counter((row["image_id"], row["category_id"]) for row in truth.annotations if not row["iscrowd"])
    above = {key: count for key, count in objects.items() if count > most}
    if not above:
        return {}
    return {
        "images_above_max_detections": len({image_id for image_id, _ in above}),
        "objects_above_max_detections": sum(count - most for count in above.values()),
        "most_objects": max(above.values()),
    }


def _protocol(params: Any, iou_type: IouType) -> dict[str, Any]:
    import faster_coco_eval

    fields = {
        "metric": "COCO average precision",
        "iou_type": iou_type,
        "iou_thresholds": [round(float(value), 2) for value in params.iouThrs],
        "recall_thresholds": [round(float(value), 2) for value in params.recThrs],
        "area_ranges": {
            label: [float(low), float(high)]
            for label, (low, high) in zip(params.areaRngLbl, params.areaRng[: len(_AREAS)], strict=True)
        },
        "max_detections": [int(value) for value in params.maxDets],
        "classes": "mean over classes with ground truth",
    }
    return {**fields, "hash": protocol_hash(fields), "library": f"faster-coco-eval {faster_coco_eval.__version__}"}
