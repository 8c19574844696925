"""Measure pretrained weights on the development suite before any training: AP on the held-out images.

    python tools/bench.py zero_shot --data ../shared/data --weights ../shared/weights/yolov8n-coco-from-int8.pt

For each cell of `recipes`: every predicted class and every labelled one counted as one object,
and, where the weights have the class under names of their own, those names alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.parity.tasks import pycocotools_ap
from benchmarks.recipe_suite import SIZES, SUITE, Cell, make_cell

OF_COCO = {
    "coco_person": ("person",),
    "kitti_vehicle": ("car", "truck", "bus"),
    "carla_vehicle": ("car", "truck", "bus"),
}
"""Data set of one class -> what the weights call it."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/yolov8n-coco-from-int8.pt"))
    parser.add_argument("--arch", default="yolov8n")
    parser.add_argument("--sets", nargs="+", default=[data.name for data in SUITE])
    parser.add_argument("--sizes", type=int, nargs="+", default=[0], choices=SIZES, help="cells; 0: of all images")
    parser.add_argument("--image-size", type=int, default=256)
    return parser.parse_args()


def predict(model: Any, cell: Cell) -> list[dict[str, Any]]:
    """Return the predictions on a cell's held-out images as COCO results, with class names for ids."""
    from tlvision.data.dataset import EvalImages
    from tlvision.formats.coco import read_coco, xyxy_to_xywh
    from tlvision.inference.predict import predict_samples

    held = read_coco(cell.folder / "held.json", cell.images)
    images = EvalImages(held.samples, model.adapter.input_spec, model.image_size)
    return [
        {"image_id": sample.image_id, "category_id": model.classes.names[label], "bbox": box, "score": score}
        for sample, found in predict_samples(model.adapter, images, fabric=model.fabric, batch_size=8, workers=0)
        for box, score, label in zip(
            xyxy_to_xywh(found.boxes).tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def score_as_one(truth: Path, rows: Sequence[dict[str, Any]], names: Sequence[str], folder: Path) -> float:
    """Return the AP of the rows with these class names (empty: all), every class of both sides counted as one."""
    document = json.loads(truth.read_text(encoding="utf-8"))
    document["categories"] = [{"id": 1, "name": "object"}]
    for annotation in document["annotations"]:
        annotation["category_id"] = 1
    kept = [{**row, "category_id": 1} for row in rows if not names or row["category_id"] in names]
    for name, content in (("truth", document), ("rows", kept)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return float(pycocotools_ap(folder / "truth.json", folder / "rows.json")[0])


def main() -> None:
    """Print the markdown table."""
    from tlvision.analysis.features import ModelChoice, choose_model
    from tlvision.plugin.weights.files import read_tensors

    options = arguments()
    names = read_tensors(options.weights).class_names
    if names is None:
        raise SystemExit(f"error: '{options.weights}' does not say what its classes are called; give a file that does")
    choice = ModelChoice(
        plugin="yolo",
        arch=options.arch,
        weights=str(options.weights),
        classes=tuple(names),
        image_size=options.image_size,
    )
    model = choose_model(choice, seed=0)
    print("| cell | held-out images | any class as one | classes | these alone |\n|---|---|---|---|---|")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for data in (each for each in SUITE if each.name in options.sets):
            for cell in (make_cell(data, size, options.data, folder / "cells") for size in options.sizes):
                if cell is None:
                    continue
                truth, rows = cell.folder / "held.json", predict(model, cell)
                count = len(json.loads(truth.read_text(encoding="utf-8"))["images"])
                alone = OF_COCO.get(data.name, ())
                known = f"{score_as_one(truth, rows, alone, folder):.4f}" if alone else ""
                line = [cell.name, str(count), f"{score_as_one(truth, rows, (), folder):.4f}", ", ".join(alone), known]
                print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
