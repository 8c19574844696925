"""A small COCO dataset that the tests of evaluation bend in one place each."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def truth() -> dict[str, list[dict[str, Any]]]:
    """Two images, the second without objects; two classes, the second without objects."""
    return {
        "images": [{"id": 10, "height": 100, "width": 120}, {"id": 11, "height": 100, "width": 120}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 3, "bbox": [10, 10, 20, 30], "area": 600, "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 3, "bbox": [60, 10, 50, 40], "area": 2000, "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "cell"}, {"id": 90, "name": "dust"}],
    }


@pytest.fixture
def results() -> list[dict[str, Any]]:
    """Both objects found exactly."""
    return [
        {"image_id": 10, "category_id": 3, "bbox": [10, 10, 20, 30], "score": 0.9},
        {"image_id": 10, "category_id": 3, "bbox": [60, 10, 50, 40], "score": 0.8},
    ]
