"""Compare the speed of `coco_map` with pycocotools on the same two files, reading included.

    python tools/benchmarks/evaluation.py

80,000 detections on 1,000 images with 80 classes, deterministic; each side reads both files and computes the twelve
numbers; the median of three runs counts, and both results must agree to 1e-9.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.evaluation import coco_map

IMAGES, CLASSES, OBJECTS_PER_IMAGE, DETECTIONS_PER_IMAGE = 1000, 80, 8, 80
REPEATS = 3


def write_dataset(folder: Path) -> tuple[Path, Path]:
    """Write ground truth (8 objects an image) and detections (80 an image, about 16 of them near an object)."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, IMAGES + 1):
        labels = rng.integers(1, CLASSES + 1, OBJECTS_PER_IMAGE)
        boxes = np.hstack([rng.uniform(0, 400, (OBJECTS_PER_IMAGE, 2)), rng.lognormal(4, 0.8, (OBJECTS_PER_IMAGE, 2))])
        for label, box in zip(labels.tolist(), boxes.tolist(), strict=True):
            fields = {"image_id": image_id, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **fields})
        # As a detector's output: a few near the objects, and a long tail of weak false positives.
        near = np.repeat(np.arange(OBJECTS_PER_IMAGE), 2)
        far = DETECTIONS_PER_IMAGE - len(near)
        found = np.vstack([boxes[near] * rng.normal(1, 0.04, (len(near), 4)), rng.uniform(1, 300, (far, 4))])
        classes = np.concatenate([labels[near], rng.integers(1, CLASSES + 1, far)])
        scores = np.concatenate([rng.uniform(0.2, 1, len(near)), rng.uniform(0, 0.4, far)])
        for label, box, score in zip(classes.tolist(), found.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": image_id, "category_id": label, "bbox": box, "score": score})
    truth = {
        "images": [{"id": i, "width": 800, "height": 800, "file_name": f"{i}.jpg"} for i in range(1, IMAGES + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)],
    }
    paths = folder / "gt.json", folder / "predictions.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return paths


def pycocotools_map(ground_truth: Path, predictions: Path) -> list[float]:
    """Return pycocotools' twelve numbers, from the two files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ground_truth))
        evaluator = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]


def our_map(ground_truth: Path, predictions: Path) -> list[float]:
    """Return our twelve numbers in the same order, -1 for None."""
    numbers = coco_map(ground_truth, predictions)["bbox"].values()
    return [-1.0 if value is None else value for value in numbers]


def _median_seconds(work: Callable[[Path, Path], list[float]], files: tuple[Path, Path]) -> tuple[float, list[float]]:
    seconds, numbers = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        numbers = work(*files)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), numbers


def run() -> dict[str, float]:
    """Return median seconds of both, their ratio, and the largest difference among the twelve numbers."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_dataset(Path(folder))
        ours, our_numbers = _median_seconds(our_map, files)
        theirs, their_numbers = _median_seconds(pycocotools_map, files)
    return {
        "detections": IMAGES * DETECTIONS_PER_IMAGE,
        "images": IMAGES,
        "tlvision_seconds": ours,
        "pycocotools_seconds": theirs,
        "ratio": theirs / ours,
        "AP": our_numbers[0],
        "largest_difference": float(np.abs(np.subtract(our_numbers, their_numbers)).max()),
    }


def main() -> None:
    """Print the comparison; fail where the numbers differ."""
    measured = run()
    print(
        f"{measured['detections']} detections on {measured['images']} images: tlvision "
        f"{measured['tlvision_seconds']:.2f} s, pycocotools {measured['pycocotools_seconds']:.2f} s, ratio "
        f"{measured['ratio']:.1f}; AP {measured['AP']:.4f}, largest difference {measured['largest_difference']:.1e}"
    )
    if measured["largest_difference"] > 1e-9:
        raise SystemExit("the numbers differ by more than 1e-9")


if __name__ == "__main__":
    main()
