"""Compare the speed of scoring label maps of two megapixels with mmsegmentation's IoUMetric.

    python tools/bench.py label_maps

24 pairs of 1024 x 2048 with 19 classes in blocks, a tenth of the pixels wrong. Both sides get the same arrays and one
thread; the median of five runs counts, and the IoU of each class must agree to 1e-12. Reading and decoding the PNGs is
measured apart, for whole folders. Without mmsegmentation ours is measured alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from tlvision.evaluation import class_iou, label_map_iou
from tlvision.formats.label_maps import write_label_map

IMAGES, SIZE, CLASSES, REPEATS = 24, (1024, 2048), 19, 5
NAMES = tuple(f"class {index}" for index in range(CLASSES))
Pairs = list[tuple[Any, Any]]


def draw_pairs() -> Pairs:
    """Return ground truths and predictions, uint8."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(IMAGES):
        blocks = rng.integers(0, CLASSES, (SIZE[0] // 64, SIZE[1] // 64)).astype(np.uint8)
        truth = blocks.repeat(64, 0).repeat(64, 1)
        wrong = rng.random(truth.shape, dtype=np.float32) < 0.1
        prediction = np.where(wrong, rng.integers(0, CLASSES, truth.shape, dtype=np.uint8), truth)
        truth[:8] = 255
        pairs.append((truth, prediction))
    return pairs


def upstream_iou(pairs: Pairs) -> list[float]:
    """Return the IoU of each class as mmsegmentation computes it."""
    from mmseg.evaluation.metrics.iou_metric import IoUMetric

    import tlvision_openmmlab.mmcv_ops  # noqa: F401

    areas = [
        IoUMetric.intersect_and_union(torch.from_numpy(found).long(), torch.from_numpy(truth).long(), CLASSES, 255)
        for truth, found in pairs
    ]
    intersection, union = (sum(each[number].double() for each in areas) for number in (0, 1))
    found: list[float] = (intersection / union).tolist()
    return found


def our_iou(pairs: Pairs) -> list[float]:
    """Return ours."""
    return [row["iou"] for row in class_iou(pairs, NAMES)["per_class"].values()]


def _median(work: Callable[[], Any]) -> tuple[float, Any]:
    seconds = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - before)
    return statistics.median(seconds), result


def main() -> None:
    """Print images per second for arrays, for folders, with boundary IoU, and the ratio to upstream."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pairs = draw_pairs()
    ours, numbers = _median(lambda: our_iou(pairs))
    print(f"arrays            {IMAGES / ours:7.0f} images/s")
    try:
        theirs, expected = _median(lambda: upstream_iou(pairs))
    except ImportError:
        print("mmsegmentation is not installed: no ratio")
    else:
        largest = max(abs(one - other) for one, other in zip(numbers, expected, strict=True))
        assert largest < 1e-12, largest
        ratio = f"ratio {theirs / ours:.1f}, largest difference {largest:.1g}"
        print(f"mmsegmentation    {IMAGES / theirs:7.0f} images/s   {ratio}")
    with_boundary, _ = _median(lambda: class_iou(pairs, NAMES, boundary=True))
    print(f"with boundary IoU {IMAGES / with_boundary:7.0f} images/s")
    with tempfile.TemporaryDirectory() as folder:
        sides = Path(folder, "truth"), Path(folder, "found")
        for number, pair in enumerate(pairs):
            for side, labels in zip(sides, pair, strict=True):
                side.mkdir(exist_ok=True)
                write_label_map(side / f"{number}.png", labels)
        folders, _ = _median(lambda: label_map_iou(*sides, NAMES))
    print(f"folders of PNGs   {IMAGES / folders:7.0f} images/s")


if __name__ == "__main__":
    main()
