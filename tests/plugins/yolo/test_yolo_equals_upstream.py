"""YOLOv8n's boxes from a file, ours against ultralytics' own predictor and validator; docs/equal-predictions.md."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from tlvision.plugin.weights.files import read_tensors
from tlvision.types import ClassMap

SIZE = 640
SCRIPT = Path(__file__).with_name("upstream_predictions.py")
# A JPEG that is decoded at half its size has other pixels than one that is shrunk afterwards.
DECODED_SMALLER = "huge.jpg"
SUPPRESSED_ABOVE = 0.7

pytestmark = [pytest.mark.shared, pytest.mark.slow]


def of_many_sizes(shared: Path) -> list[Path]:
    """Return one file of each size in COCO's images."""
    by_size: dict[tuple[int, int], Path] = {}
    for path in sorted((shared / "data" / "coco128" / "images").glob("*.jpg")):
        with Image.open(path) as image:
            by_size.setdefault(image.size, path)
    return list(by_size.values())


@pytest.fixture
def files(shared: Path, pictures: Any) -> list[Path]:
    found: list[Path] = pictures(of_many_sizes(shared))
    return found


@pytest.fixture
def model(build: Any, shared: Path, as_loaded: Any) -> Any:
    weights = weights_of(shared)
    names = read_tensors(weights).class_names
    assert names is not None
    return as_loaded(build("yolov8n", names, weights), "yolo", "yolov8n", ClassMap.from_names(names), SIZE)


def weights_of(shared: Path) -> Path:
    return shared / "weights" / "yolov8n-coco-from-int8.pt"


@pytest.fixture
def upstream(shared: Path, tmp_path: Path, files: list[Path]) -> Callable[..., dict[str, Any]]:
    """Return `find(kind, same_resize)`, which gives boxes, scores and labels by name of the file."""

    def find(kind: str, *, same_resize: bool) -> dict[str, Any]:
        flag = "yes" if same_resize else "no"
        command = [sys.executable, SCRIPT, kind, weights_of(shared), str(SIZE), flag, tmp_path, *files]
        subprocess.run(command, check=True)
        rows = json.loads((tmp_path / f"{kind}.json").read_text(encoding="utf-8"))
        tables = {name: np.array(each, np.float64).reshape(-1, 6) for name, each in rows.items()}
        return {name: (table[:, :4], table[:, 4], table[:, 5].astype(int)) for name, table in tables.items()}

    return find


def of(prediction: Any) -> tuple[Any, Any, Any]:
    return prediction.boxes, prediction.scores, prediction.labels


def above(found: tuple[Any, Any, Any], floor: float) -> tuple[Any, Any, Any]:
    kept = found[1] >= floor
    return found[0][kept], found[1][kept], found[2][kept]


def rounded_as_ours(file: Path) -> bool:
    """Whether upstream's validator, which rounds the resized size up, gets the size that we get."""
    with Image.open(file) as image:
        gain = SIZE / max(image.size)
        return all(math.ceil(side * gain) == round(side * gain) for side in image.size)


def without_beaten(wanted: tuple[Any, Any, Any], ours: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Return those of `wanted` that no better box of ours with the same class suppresses.

    The predictor gives a place one class; the others of that place, which suppress their likes, it cannot see.
    """
    overlap = box_iou(torch.from_numpy(wanted[0]), torch.from_numpy(ours[0].astype(np.float64))).numpy()
    better = ours[1][None] > wanted[1][:, None] + 1e-4
    beaten = ((overlap > SUPPRESSED_ABOVE) & better & (ours[2][None] == wanted[2][:, None])).any(axis=1)
    return wanted[0][~beaten], wanted[1][~beaten], wanted[2][~beaten]


def test_boxes_are_those_of_the_validator(model: Any, files: list[Path], upstream: Any, comparison: Any) -> None:
    """Every object from a score of 0.01 on, in both directions; only the pixels of resizing are made equal."""
    theirs, result = upstream("validate", same_resize=True), comparison()
    files = [file for file in files if rounded_as_ours(file) and file.name != DECODED_SMALLER]
    assert len(files) >= 15
    for file, found in zip(files, model.predict(files), strict=True):
        result.add(file.name, of(found), theirs[file.name], floor=0.01, pixels=0.02, score=1e-4)
    print(result)
    assert not result.missing
    assert result.compared > 500


def test_boxes_are_those_of_the_predictor(model: Any, files: list[Path], upstream: Any, comparison: Any) -> None:
    """Its input has no margin, and it gives one class a place where its validator, and we, give all of them."""
    model.adapter.input_spec = replace(model.adapter.input_spec, margin=0)
    theirs, clear, all_of_theirs = upstream("predict", same_resize=True), comparison(), comparison()
    for file, found in zip(files, model.predict(files), strict=True):
        if file.name == DECODED_SMALLER:
            continue
        clear.add(file.name, of(found), theirs[file.name], floor=0.25, pixels=0.02, score=1e-4)
        wanted = without_beaten(above(theirs[file.name], 0.01), of(found))
        all_of_theirs.find_all(file.name, wanted, of(found), 0.02, 1e-4)
    print(clear, all_of_theirs, sep="\n")
    assert not clear.missing
    assert not all_of_theirs.missing
    assert clear.compared > 80
    assert all_of_theirs.compared > 300


def test_resizing_differs_little(model: Any, files: list[Path], upstream: Any, comparison: Any) -> None:
    """As users have both: OpenCV's linear resize against averaging, on the pictures that are resized at all."""
    theirs, result = upstream("validate", same_resize=False), comparison()
    for file, found in zip(files, model.predict(files), strict=True):
        result.add(file.name, of(found), theirs[file.name], floor=0.25, pixels=6, score=0.08)
    print(result)
    assert not result.missing
    assert result.compared > 80
