"""Write what the report of a run shows and no other file has: the worst images with their pictures, class balance."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlvision.data.images import read_image
from tlvision.engine.datasets import label_options
from tlvision.engine.operating_point import read_thresholds
from tlvision.evaluation.class_iou import class_iou
from tlvision.evaluation.image_costs import worst_images
from tlvision.files.json_files import write_json
from tlvision.files.names import stems_in
from tlvision.report.draw import draw_pair
from tlvision.report.thumbnails import jpeg
from tlvision.types import Array, Pixels, Sample

if TYPE_CHECKING:
    from tlvision.engine.build import Run
    from tlvision.types import Dataset, Prediction, Target

REPORT_DATA = "report.json"
WORST = Path("pictures", "worst")
COUNT = 24
"""Number of worst images with objects; of label maps there are as many as `analysis` names."""
MAX_BYTES = 48_000
"""Largest picture: 24 pairs of them take 3.1 MB of the page, which has to stay below 5 MB."""
_LOW_IOU = 0.5


@dataclass(slots=True)
class _Worst:
    """One of the worst images: what report.json has of it, and what its pictures show."""

    position: int
    row: dict[str, Any]
    wrong: Sequence[str | None] = ()
    missed: Sequence[bool] = ()


def write_report_data(run: Path, parts: Run, ground_truth: Path, analysis: Mapping[str, Any]) -> None:
    """Draw the worst images into `<run>/pictures/worst`, and write `<run>/report.json`.

    ground_truth: what the predictions of the run are measured with. analysis: of metrics.json.

    report.json holds
        class_balance: {"train": {name: objects}, "val": …}, without crowd regions; null for label maps
        worst:         kind ("bbox"), measure ("AP50_lost" or "mean_class_iou") and images, the worst first; null if the
                       task has no such analysis. An image has image (name), value, errors {kind: count}, classes (of
                       these errors; of label maps those with an IoU below 0.5), truth and prediction (pictures)
    """
    kind = parts.task.metrics()[0].name.split("/")[0]
    found = analysis.get(kind) or {}
    worst: list[_Worst] = []
    measure = ""
    if "operating_point" in found:
        worst, measure = _object_images(run, parts, ground_truth, kind), "AP50_lost"
    elif "images" in found:
        worst, measure = _label_map_images(parts.val, found["images"]["worst"]), "mean_class_iou"
    _draw(run, parts, worst)
    balance = {"train": _objects(parts, parts.train), "val": _objects(parts, parts.val)}
    content = {
        "class_balance": balance if any(sum(counts.values()) for counts in balance.values()) else None,
        "worst": {"kind": kind, "measure": measure, "images": [image.row for image in worst]} if measure else None,
    }
    write_json(run / REPORT_DATA, content, indent=1, nan="null")


def _objects(parts: Run, data: Dataset) -> dict[str, int]:
    labels = [sample.target.labels[~sample.target.crowd] for sample in data.samples]
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(parts.classes.names))
    return dict(zip(parts.classes.names, counts.tolist(), strict=True))


def _object_images(run: Path, parts: Run, ground_truth: Path, kind: str) -> list[_Worst]:
    place = {sample.image_id: number for number, sample in enumerate(parts.val.samples)}
    found = worst_images(
        ground_truth,
        run / parts.task.results_name,
        read_thresholds(run),
        "segm" if kind == "segm" else "bbox",
        max_detections=parts.config.evaluate.max_detections,
        count=COUNT,
    )
    return [
        _Worst(
            place[image.image_id],
            {"value": image.cost, "errors": image.kinds, "classes": list(image.classes)},
            image.wrong,
            image.missed,
        )
        for image in found
        if image.image_id in place
    ]


def _label_map_images(data: Dataset, worst: Sequence[Mapping[str, Any]]) -> list[_Worst]:
    stems = stems_in([sample.path for sample in data.samples], data.images_dir)
    place = {stem: number for number, stem in enumerate(stems)}
    return [
        _Worst(place[row["image"]], {"value": row["mean_class_iou"], "errors": {}, "classes": []})
        for row in worst
        if row["image"] in place
    ]


def _draw(run: Path, parts: Run, worst: Sequence[_Worst]) -> None:
    """Draw each image and complete its row; the pictures of an earlier end of the run go."""
    shutil.rmtree(run / WORST, ignore_errors=True)
    if not worst:
        return
    (run / WORST).mkdir(parents=True)
    data, least = parts.val, read_thresholds(run).of(parts.classes.names)
    positions = [image.position for image in worst]
    results = parts.task.read_results(
        run / parts.task.results_name, data, positions, label_options(parts.config.data), float(least.min())
    )
    stems = stems_in([sample.path for sample in data.samples], data.images_dir)
    for number, (image, (prediction, target)) in enumerate(zip(worst, results, strict=True), start=1):
        sample = data.samples[image.position]
        image.row["image"] = f"{stems[image.position]}{sample.path.suffix}"
        if target.semantic is not None and prediction.semantic is not None:
            image.row["classes"] = _low_classes(target.semantic, prediction.semantic, parts.classes.names)
        pictures = _pair(sample, image, prediction.above(least), target, parts.classes.names)
        for name, picture in zip(("truth", "prediction"), pictures, strict=True):
            path = WORST / f"{number:02}_{name}.jpg"
            (run / path).write_bytes(jpeg(picture, MAX_BYTES))
            image.row[name] = path.as_posix()


def _low_classes(truth: Array, predicted: Array, names: Sequence[str]) -> list[str]:
    rows = class_iou([(truth, predicted)], names)["per_class"]
    return [name for name in names if rows[name]["iou"] is not None and rows[name]["iou"] < _LOW_IOU]


def _pair(
    sample: Sample, image: _Worst, prediction: Prediction, target: Target, names: Sequence[str]
) -> tuple[Pixels, Pixels]:
    pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
    # Evaluation may count fewer objects than there are, such as 100 of a class: without a mark then.
    wrong = image.wrong if len(image.wrong) == len(prediction) else None
    missed = image.missed if len(image.missed) == len(target) else None
    return draw_pair(pixels, prediction, target, names, wrong=wrong, missed=missed)
