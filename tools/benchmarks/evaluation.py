"""Compare the speed of `coco_map` with pycocotools on the same two files, reading included.

    python tools/benchmarks/evaluation.py            # or: large

80,000 detections on 1,000 images with 80 classes, deterministic; each side reads both files and computes the twelve
numbers; the median of three runs counts, and both results must agree to 1e-9.

`large`: 400,000 detections on 5,000 images: seconds and peak memory of faster-coco-eval alone, of `coco_map`, and of
`coco_map` with its analysis, each in a process of its own; and the seconds of 1,000 resamples of the images.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.evaluation import coco_map

IMAGES, CLASSES, OBJECTS_PER_IMAGE, DETECTIONS_PER_IMAGE = 1000, 80, 8, 80
REPEATS = 3


def write_dataset(folder: Path, images: int = IMAGES) -> tuple[Path, Path]:
    """Write ground truth (8 objects an image) and detections (80 an image, about 16 of them near an object)."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, images + 1):
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
        "images": [{"id": i, "width": 800, "height": 800, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
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


LARGE_IMAGES = 5000
SIDES = {
    "faster-coco-eval alone": (
        "from faster_coco_eval import COCO, COCOeval_faster\n"
        "truth = COCO(gt)\ne = COCOeval_faster(truth, truth.loadRes(found), iouType='bbox')\n"
        "e.evaluate()\ne.accumulate()"
    ),
    "coco_map": "from tlvision.evaluation import coco_map\ncoco_map(gt, found)",
    "coco_map with analysis": (
        "from tlvision.evaluation import Analysis, coco_map\ncoco_map(gt, found, analysis=Analysis())"
    ),
    "1,000 resamples of the images": (
        "from tlvision.evaluation.bootstrap import bootstrap\n"
        "from tlvision.evaluation.per_image import objects_per_image\n"
        "results = objects_per_image(gt, found, ['bbox'])\nstart = time.perf_counter()\nbootstrap([results])"
    ),
}
"""Name -> program; `gt` and `found` are the paths. The clock starts before it, or where it sets `start`."""


def large() -> dict[str, dict[str, float]]:
    """Return seconds (median) and peak memory in MiB of each side on 400,000 detections."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(path) for path in write_dataset(Path(folder), LARGE_IMAGES)]
        for _ in range(REPEATS):  # one after the other, so that a busy minute does not meet one side alone
            for name, program in SIDES.items():
                measured[name].append(_in_process(program, files))
    return {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in measured.items()
    }


def _in_process(program: str, files: list[str]) -> dict[str, float]:
    text = (
        f"import json, resource, sys, time\ngt, found = sys.argv[1:]\nstart = time.perf_counter()\n{program}\n"
        "seconds = time.perf_counter() - start\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(json.dumps({'seconds': seconds, 'peak_mib': peak}))"
    )
    done = subprocess.run([sys.executable, "-c", text, *files], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Print the comparison; fail where the numbers differ."""
    if sys.argv[1:] == ["large"]:
        for name, row in large().items():
            print(f"{name:<32}{row['seconds']:8.2f} s{row['peak_mib']:8.0f} MiB")
        return
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
