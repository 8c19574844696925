"""Datasets for the doctor: images that differ, two classes, and a config that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlvision.analysis.doctor import Finding, examine
from tlvision.config.load import load_config

Content = dict[str, Any]


def picture(number: int, salt: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return a picture that is like no other."""
    coarse = np.random.default_rng([number, salt]).integers(20, 190, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_part(folder: Path, name: str, count: int, *, second_class_in: int | None = None) -> None:
    """Write `name`.json and its images: a cat in every image, a dog in the first `second_class_in` (None: in all)."""
    images = folder / name
    images.mkdir(parents=True)
    rows, boxes = [], []
    for number in range(count):
        picture(number, count).save(images / f"{number}.png")
        rows.append({"id": number + 1, "file_name": f"{number}.png", "width": 160, "height": 120})
        classes = (1, 2) if second_class_in is None or number < second_class_in else (1,)
        for category in classes:
            side = 20.0 + (7 * number) % 20
            box = [5.0 + 60 * (category - 1), 5.0, side, side + 3]
            row = {"id": len(boxes) + 1, "image_id": number + 1, "category_id": category, "bbox": box}
            boxes.append({**row, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": rows, "annotations": boxes, "categories": categories}
    (folder / f"{name}.json").write_text(json.dumps(content))


def config_of(folder: Path, *names: str) -> dict[str, Any]:
    """Return a config of the datasets that `write_part` has written."""
    return {
        "model": {"plugin": "toy", "arch": "tiny_detector", "weights": "none"},
        "data": {name: {"json": str(folder / f"{name}.json"), "images": str(folder / name)} for name in names},
        "train": {"epochs": 1, "device": "cpu"},
        "run": {"out": str(folder / "run")},
    }


def two_parts(folder: Path) -> dict[str, Any]:
    """Write 24 training and 12 validation images, and return their config."""
    write_part(folder, "train", 24)
    write_part(folder, "val", 12)
    return config_of(folder, "train", "val")


def findings_of(values: dict[str, Any]) -> list[Finding]:
    """Return what the doctor finds."""
    return examine(load_config(values))[1]


def change_json(path: Path, change: Any) -> None:
    """Let `change` edit the content of a json in place."""
    content: Content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
