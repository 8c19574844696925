"""Random COCO datasets that are hard in the ways that evaluators get wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

CATEGORY_IDS = ((0,), (1, 2), (3, 7, 90), (0, 1, 2, 3, 4))
# Squares whose area is exactly a border (32**2, 96**2), just below, just above, and others.
SIDES = (4.0, 16.0, 31.0, 32.0, 33.0, 64.0, 95.0, 96.0, 97.0, 150.0)
Dataset = tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]


def random_dataset(seed: int) -> Dataset:
    """Return (ground truth, results) with crowds, empty images, absent classes, ties, borders and many detections."""
    rng = np.random.default_rng(seed)
    category_ids = CATEGORY_IDS[seed % len(CATEGORY_IDS)]
    # Image ids are neither sorted nor contiguous, and now and then large.
    count = int(rng.integers(1, 9))
    image_ids = [int(i) * (10**9 if seed % 11 == 0 else 1) for i in rng.permutation(50)[:count]]
    integer_boxes = bool(rng.integers(2))
    labelled = category_ids[: max(1, int(rng.integers(1, len(category_ids) + 1)))]  # the others are absent
    annotations: list[dict[str, Any]] = []
    for image_id in image_ids:
        if rng.random() < 0.25:
            continue  # an image without objects
        for _ in range(int(rng.integers(1, 9))):
            box = _box(rng, integer_boxes)
            annotations.append(
                {
                    "id": 0,
                    "image_id": image_id,
                    "category_id": int(rng.choice(labelled)),
                    "bbox": box,
                    # The area of a mask, as in COCO's files, is not that of the box.
                    "area": box[2] * box[3] * (1.0 if rng.random() < 0.6 else float(rng.uniform(0.3, 1.0))),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
    order = rng.permutation(len(annotations))
    annotations = [annotations[i] for i in order]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number * 3
    truth = {
        "images": [{"id": i, "height": 400, "width": 400, "file_name": f"{i}.jpg"} for i in image_ids],
        "annotations": annotations,
        # In any order, as files have them; the evaluators sort by id.
        "categories": [{"id": i, "name": f"class {i}"} for i in rng.permutation(category_ids).tolist()],
    }
    if seed % 40 == 7:
        return truth, []
    return truth, _results(rng, truth, image_ids, category_ids, crowded=seed % 10 == 0)


def _box(rng: np.random.Generator, integer: bool) -> list[float]:
    side = float(rng.choice(SIDES))
    box = [*rng.uniform(0, 250, 2), side, side * float(rng.choice([1.0, 1.0, 0.5, 1.5]))]
    if not integer and rng.random() < 0.5:
        box[2] += float(rng.normal(0, 0.01))
    return [float(round(value)) for value in box] if integer else [float(value) for value in box]


def _results(
    rng: np.random.Generator,
    truth: dict[str, list[dict[str, Any]]],
    image_ids: list[int],
    category_ids: tuple[int, ...],
    crowded: bool,
) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []

    def add(image_id: int, category_id: int, box: list[float]) -> None:
        # Scores on a grid of 0.1 tie often, within an image and across images.
        score = float(rng.integers(0, 11)) / 10 if rng.random() < 0.7 else float(rng.random())
        results.append({"image_id": image_id, "category_id": category_id, "bbox": box, "score": score})

    for annotation in truth["annotations"]:
        for _ in range(int(rng.integers(0, 4))):
            x, y, width, height = annotation["bbox"]
            kind = rng.integers(4)
            if kind == 0:  # the same box
                box = [x, y, width, height]
            elif kind == 1:  # IoU exactly 0.5, 0.6, 0.75, 0.8 or 0.95, the borders of the thresholds
                box = [x, y, width, height * float(rng.choice([0.5, 0.6, 0.75, 0.8, 0.95]))]
            else:
                dx, dy, dw, dh = rng.normal(0, 0.12, 4) * [width, height, width, height]
                box = [float(x + dx), float(y + dy), float(max(width + dw, 0)), float(max(height + dh, 0))]
            wrong_class = rng.random() < 0.1
            add(
                annotation["image_id"], int(rng.choice(category_ids)) if wrong_class else annotation["category_id"], box
            )
    for image_id in image_ids:
        for _ in range(int(rng.integers(0, 4))):
            add(image_id, int(rng.choice(category_ids)), _box(rng, False))
    if crowded:  # more than 100 and more than 300 detections in one image, of one class
        annotation = truth["annotations"][0] if truth["annotations"] else None
        for _ in range(int(rng.choice([130, 350]))):
            box = _box(rng, False) if annotation is None or rng.random() < 0.9 else list(annotation["bbox"])
            class_id = category_ids[0] if annotation is None else annotation["category_id"]
            add(image_ids[0] if annotation is None else annotation["image_id"], class_id, box)
    return [results[i] for i in rng.permutation(len(results))]


@pytest.fixture(scope="session")
def dataset_of() -> Callable[[int], Dataset]:
    """The generator, by seed."""
    return random_dataset
