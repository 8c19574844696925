"""Tiled predictions of tlvision and of sahi, from the very same model: AP, AP of small objects, time for each image.

    OMP_NUM_THREADS=1 python tools/bench.py sahi [--floors 0.01 0.25] [--json docs/benchmarks/sahi.json]

YOLOv8n with COCO weights, untrained on the images. It sees inputs of 320 pixels: whole images are shrunk to that, tiles
are cut at that size, as if the images were too large for the network. sahi calls our model through its own
`DetectionModel`, so that only the windows and the merge differ. All get the whole image as well, one input at a time.
pycocotools scores; intervals are a paired bootstrap over the images. Needs `pip install sahi`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from benchmarks.evaluation import pycocotools_map
from benchmarks.zero_shot import OF_COCO

from tlvision.data.images import read_image
from tlvision.data.settings import TileSettings
from tlvision.engine.model import open_model
from tlvision.evaluation.bootstrap import bootstrap
from tlvision.evaluation.per_image import objects_per_image
from tlvision.formats.coco import read_coco, xyxy_to_xywh
from tlvision.inference.predict import Tiling, predict_array
from tlvision.plugin.protocol import BuildSpec, PredictSpec
from tlvision.plugin.registry import get_plugin
from tlvision.plugin.weights.files import read_tensors
from tlvision.training.settings import TrainSettings
from tlvision.types import ClassMap, InputError, Pixels, Prediction

SIDE, OVERLAP, MOST = 320, 0.2, 300
SETS = {
    "coco128": ("coco128", "val.json", {}),
    "kitti": ("driving_kitti", "val_vehicle.json", dict.fromkeys(OF_COCO["kitti_vehicle"], "vehicle")),
}
"""Name -> folder, json, and names of the json's classes for those of the weights; empty: they are equal."""
MERGES = {"sahi, NMS": ("NMS", "IOU"), "sahi, greedy NMM": ("GREEDYNMM", "IOS")}
"""Name -> merge and measure of overlap of sahi, threshold 0.5 as ours. Greedy NMM by IoS is its default for floors of
0.1 or more; below it takes NMS by itself."""
REFERENCE = "tlvision, NMS"
Detect = Callable[[Pixels], Prediction]


@dataclass(frozen=True, slots=True)
class Model:
    """One network. adapter, fabric: of tlvision. names: of the classes of its weights."""

    adapter: Any
    fabric: Any
    names: tuple[str, ...]

    def detect(self, image: Pixels, tiles: Tiling | None = None) -> Prediction:
        """Return what is found in an image (H, W, 3) uint8 RGB, in its pixels."""
        return predict_array(self.adapter, image, fabric=self.fabric, image_size=SIDE, tiles=tiles)


def open_weights(path: Path, floor: float) -> Model:
    """Return YOLOv8n with these weights, which gives objects of a score above `floor`."""
    names = tuple(read_tensors(path).class_names or ())
    if not names:
        raise InputError(f"sahi: '{path}' has no names of classes. Give --weights a file that has them")
    classes = ClassMap(names, tuple(range(1, len(names) + 1)))
    predict = PredictSpec(score_floor=floor, max_detections=MOST)
    spec = BuildSpec(arch="yolov8n", weights=str(path), classes=classes, image_size=SIDE, predict=predict)
    model = open_model(get_plugin("yolo"), spec, TrainSettings(epochs=1, precision="fp32", seed=0))
    return Model(model.adapter, model.fabric, names)


def sides(model: Model, floor: float) -> dict[str, Detect]:
    """Return what predicts an image, by name."""
    ours = {
        f"tlvision, {merge.upper()}": partial(
            model.detect, tiles=Tiling(TileSettings(size=SIDE, overlap=OVERLAP, merge=merge), MOST)
        )
        for merge in ("nms", "wbf")
    }
    wrapped = wrap_for_sahi(model.detect, floor)
    theirs = {name: partial(sahi_detect, wrapped, how) for name, how in MERGES.items()}
    return {"whole image": model.detect, **ours, **theirs}


def wrap_for_sahi(detect: Detect, floor: float) -> Any:
    """Return a `DetectionModel` of sahi that calls `detect`."""
    try:
        from sahi.models.base import DetectionModel
        from sahi.prediction import ObjectPrediction
        from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list
    except ImportError as error:
        raise InputError("sahi: the package 'sahi' is not installed. Install it with pip install sahi") from error

    class Wrapped(DetectionModel):
        def load_model(self) -> None:
            self.model = detect

        def perform_inference(self, image: Pixels) -> None:
            self._original_predictions = self.model(image)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            found, shift = self._original_predictions, fix_shift_amount_list(shift_amount_list)[0]
            shapes = fix_full_shape_list(full_shape_list)
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        bbox=box, category_id=label, category_name=str(label), score=score,
                        shift_amount=shift, full_shape=shapes and shapes[0],
                    )
                    for box, label, score in zip(
                        found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
                    )
                    if box[0] < box[2] and box[1] < box[3]
                ]
            ]  # fmt: skip

    return Wrapped(confidence_threshold=floor, device="cpu")


def sahi_detect(model: Any, how: tuple[str, str], image: Pixels) -> Prediction:
    """Return what sahi finds in an image, with its windows and one of its merges."""
    from sahi.predict import get_sliced_prediction

    result = get_sliced_prediction(
        image,
        model,
        slice_height=SIDE,
        slice_width=SIDE,
        overlap_height_ratio=OVERLAP,
        overlap_width_ratio=OVERLAP,
        postprocess_type=how[0],
        postprocess_match_metric=how[1],
        verbose=0,
        force_postprocess_type=True,  # it would take NMS for a low confidence
    )
    found = sorted(result.object_prediction_list, key=lambda one: -one.score.value)[:MOST]
    return Prediction(
        boxes=np.array([one.bbox.to_xyxy() for one in found], np.float32).reshape(-1, 4),
        scores=np.array([one.score.value for one in found], np.float32),
        labels=np.array([one.category.id for one in found], np.int64),
    )


def measure(
    truth: Path, images: Path, names: Sequence[str], detectors: Mapping[str, Detect], folder: Path
) -> list[dict[str, Any]]:
    """Return a row for each detector: AP, AP of small objects, difference to `REFERENCE`, CPU seconds.

    names: of the json's class for each class of the model; "" if it has none.
    """
    data = read_coco(truth, images)
    categories = dict(zip(data.classes.names, data.classes.source_ids, strict=True))
    ids = [categories.get(name) for name in names]
    rows: dict[str, list[Any]] = {name: [] for name in detectors}
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for sample in data.samples:  # the sides take turns, so that a busy machine slows all of them
        pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
        for name, detect in detectors.items():
            start = time.process_time()
            found = detect(pixels)
            seconds[name].append(time.process_time() - start)
            rows[name] += to_rows(found, sample.image_id, ids)
    paths = [folder / f"{number}.json" for number in range(len(rows))]
    for path, found_rows in zip(paths, rows.values(), strict=True):
        path.write_text(json.dumps(found_rows), encoding="utf-8")
    resampled = bootstrap([objects_per_image(truth, path, ("bbox",)) for path in paths])
    return [
        {
            "name": name,
            **dict(zip(("AP", "AP small"), _ap(truth, path), strict=True)),
            "gap": resampled.difference("bbox/AP", [list(rows).index(REFERENCE)], [number]),
            "seconds": float(np.median(seconds[name])),
        }
        for number, (name, path) in enumerate(zip(rows, paths, strict=True))
    ]


def _ap(truth: Path, predictions: Path) -> tuple[float, float]:
    numbers = pycocotools_map(truth, predictions)
    return numbers[0], numbers[3]


def to_rows(found: Prediction, image: int, ids: Sequence[int | None]) -> list[dict[str, Any]]:
    """Return COCO results. ids: category of each class index, None for one that the labels do not have."""
    boxes: npt.NDArray[Any] = xyxy_to_xywh(found.boxes)
    return [
        {"image_id": image, "category_id": ids[label], "bbox": box, "score": score}
        for box, score, label in zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        if ids[label] is not None
    ]


def first_images(source: Path, target: Path, count: int) -> None:
    """Write a json of the first `count` images of another."""
    document = json.loads(source.read_text(encoding="utf-8"))
    document["images"] = document["images"][:count]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] in kept]
    target.write_text(json.dumps(document), encoding="utf-8")


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return the cells of a data set, times as multiples of the whole image's."""
    base = next(row["seconds"] for row in rows if row["name"] == "whole image")
    cells = []
    for row in rows:
        gap = None if row["name"] == REFERENCE else [row["gap"].difference, row["gap"].low, row["gap"].high]
        cells.append([f"{name}: {row['name']}", row["AP"], row["AP small"], gap, row["seconds"] / base])
    return cells


def main() -> None:
    """Print the rows, and write the json of the docs' table."""
    parser = argparse.ArgumentParser(prog="bench.py sahi")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/yolov8n-coco-from-int8.pt"))
    parser.add_argument("--floors", type=float, nargs="+", default=[0.01, 0.25], help="least scores, before any merge")
    parser.add_argument("--images", type=int, default=60, help="images of each set at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[list[Any]] = []
    for floor in options.floors:
        model = open_weights(options.weights, floor)
        for name, (place, labels, renamed) in SETS.items():
            with TemporaryDirectory() as temporary:
                truth = Path(temporary) / "truth.json"
                first_images(options.data / place / labels, truth, options.images)
                images = options.data / place / "images"
                names = [renamed.get(one, "") for one in model.names] if renamed else model.names
                rows = measure(truth, images, names, sides(model, floor), Path(temporary))
            cells += table(f"{name}, scores from {floor:g}", rows)
    for row in cells:
        print(row, flush=True)
    if options.json:
        content = {
            "date": f"{date.today()}",
            "device": "2 CPU cores of a busy machine, one thread; medians of CPU seconds",
            "command": ["OMP_NUM_THREADS=1 python tools/bench.py sahi --json docs/benchmarks/sahi.json"],
            "columns": [
                "",
                "AP",
                "AP, small objects",
                f"AP less that of {REFERENCE} (95 % interval)",
                "CPU time / whole image",
            ],
            "formats": ["", ".3f", ".3f", "+.3f", ".1f"],
            "rows": cells,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
