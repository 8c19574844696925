"""Tiny models from random weights learn eight real images by heart: blood cells in boxes, and street scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tlvision
from tiny import QUIET

pytestmark = [pytest.mark.shared, pytest.mark.slow]
COUNT = 8
STILL = {"mosaic": 0, "scale": 0, "translate": 0, "hue": 0, "saturation": 0, "value": 0, "flip": 0}


def train(arch: str, data: dict[str, Any], out: Path, **settings: Any) -> dict[str, Any]:
    config = {
        "model": {"plugin": "transformers", "arch": arch, "weights": "none"},
        "data": {**data, "image_size": 160, "augment": STILL, "batch": {"labelled": COUNT}},
        "train": {"device": "cpu", "optimizer": "adamw", "lr": 2e-3, "seed": 0, **settings},
        "evaluate": {"every": 100, "batch": COUNT},
        "hooks": [QUIET],
        "run": {"out": str(out)},
    }
    metrics: dict[str, Any] = tlvision.train(config).metrics
    return metrics


@pytest.mark.parametrize("kind", ["rt_detr_v2", "d_fine"])
def test_eight_images_of_blood_cells(kind: str, config_of: Callable[[str], str], shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "bccd"
    content = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    content["images"] = content["images"][:COUNT]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
    (tmp_path / "eight.json").write_text(json.dumps(content), encoding="utf-8")
    side = {"json": str(tmp_path / "eight.json"), "images": str(folder / "images")}
    metrics = train(config_of(kind), {"train": side, "val": side}, tmp_path / "run", epochs=400)
    print(kind, metrics["bbox"]["AP50"])
    assert metrics["bbox"]["AP50"] > 0.5


@pytest.mark.parametrize("kind", ["segformer", "mask2former"])
def test_eight_street_scenes(kind: str, config_of: Callable[[str], str], shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "camvid_day"
    side = {name: str(tmp_path / name) for name in ("images", "masks")}
    for path in side.values():
        Path(path).mkdir()
    for image in sorted((folder / "images" / "train").iterdir())[:COUNT]:
        shutil.copy(image, side["images"])
        shutil.copy(folder / "masks" / "train" / f"{image.stem}.png", side["masks"])
    data = {"train": side, "val": side, "classes": str(folder / "classes.txt")}
    metrics = train(config_of(kind), data, tmp_path / "run", epochs=600)
    print(kind, metrics["semantic"]["mean_class_iou"])
    assert metrics["semantic"]["mean_class_iou"] > 0.35
