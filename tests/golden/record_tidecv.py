"""Record what the published TIDE package finds in random detections, for `test_error_kinds_parity.py`.

Run with tidecv 1.0.1 (and its pandas, seaborn, appdirs) on the path: python tests/golden/record_tidecv.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("tidecv.json")
SEEDS = range(6)
IMAGES, CLASSES = 40, 3
NAMES = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
    "false_positives": "FalsePos",
    "false_negatives": "FalseNeg",
}
"""Our names -> the package's."""


def dataset(seed: int) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Return ground truth and detections with every kind of error; no two scores and no two overlaps are equal."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, IMAGES + 1):
        for _ in range(int(rng.integers(1, 7))):
            label, box = int(rng.integers(1, CLASSES + 1)), rng.uniform([0, 0, 20, 20], [200, 200, 90, 90])
            box = np.round(box, 3)
            row = {"image_id": image, "category_id": label, "bbox": box.tolist(), "area": float(box[2] * box[3])}
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **row})
            for _ in range(int(rng.integers(0, 4))):
                shift = rng.normal(0, rng.choice([0.03, 0.2, 0.5]), 4) * box[[2, 3, 2, 3]]
                found = np.maximum(box + shift, [0, 0, 5, 5])
                other = int(rng.integers(1, CLASSES + 1)) if rng.random() < 0.3 else label
                results.append({"image_id": image, "category_id": other, "bbox": np.round(found, 3).tolist()})
        for _ in range(int(rng.integers(0, 4))):
            box = np.round(rng.uniform([0, 0, 20, 20], [250, 250, 90, 90]), 3).tolist()
            results.append({"image_id": image, "category_id": int(rng.integers(1, CLASSES + 1)), "bbox": box})
    for row, score in zip(results, rng.permutation(len(results)), strict=True):
        row["score"] = round((int(score) + 1) / (len(results) + 1), 6)
    images = [{"id": number, "width": 400, "height": 400} for number in range(1, IMAGES + 1)]
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def published(truth: dict[str, list[dict[str, Any]]], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return AP50, and the number and cost of each kind of error, of the package."""
    from tidecv import TIDE
    from tidecv.data import Data

    objects, found = Data("truth"), Data("found")
    for row in truth["categories"]:
        for data in (objects, found):
            data.add_class(row["id"], row["name"])
    for image in truth["images"]:
        objects.add_image(image["id"], str(image["id"]))
    for row in truth["annotations"]:
        objects.add_ground_truth(row["image_id"], row["category_id"], row["bbox"])
    for row in results:
        found.add_detection(row["image_id"], row["category_id"], row["score"], row["bbox"])
    run = TIDE().evaluate(objects, found, mode=TIDE.BOX)
    costs = {**{kind.short_name: cost for kind, cost in run.fix_main_errors().items()}}
    costs |= {kind.short_name: cost for kind, cost in run.fix_special_errors().items()}
    counts = {kind.short_name: count for kind, count in run.count_errors().items()}
    kinds = {ours: {"count": counts.get(theirs), "AP50_lost": costs[theirs] / 100} for ours, theirs in NAMES.items()}
    return {"AP50": run.ap / 100, **kinds}


def main() -> None:
    """Write tidecv.json."""
    FILE.write_text(json.dumps([published(*dataset(seed)) for seed in SEEDS], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
