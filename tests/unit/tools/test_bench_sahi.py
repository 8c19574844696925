"""The comparison with sahi: its rows, and what it says without the package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlvision.types import InputError, Prediction


@pytest.fixture
def bench(tools: Callable[[str], Any]) -> Any:
    return tools("benchmarks.sahi")


def test_without_the_package_it_names_the_command(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sahi", None)
    monkeypatch.setitem(sys.modules, "sahi.models.base", None)
    with pytest.raises(InputError, match=r"'sahi' is not installed\. Install it with pip install sahi"):
        bench.wrap_for_sahi(lambda image: image, 0.1)


def test_classes_that_the_labels_lack_are_left_out(bench: Any) -> None:
    boxes = np.array([[1, 2, 11, 22], [0, 0, 5, 5]], np.float32)
    found = Prediction(boxes=boxes, scores=np.array([0.9, 0.8], np.float32), labels=np.array([1, 0]))
    (row,) = bench.to_rows(found, 7, [None, 3])
    assert (row["image_id"], row["category_id"], row["bbox"]) == (7, 3, [1, 2, 10, 20])
