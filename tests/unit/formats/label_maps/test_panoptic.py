"""COCO's panoptic format as label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.formats.label_maps import read_label_map, read_panoptic
from tlvision.types import ClassChanges, ClassMap, InputError

SEGMENTS = [
    {"id": 7, "category_id": 3, "iscrowd": 0},
    {"id": 65536 * 2 + 256 + 5, "category_id": 90, "iscrowd": 0},
    {"id": 9, "category_id": 3, "iscrowd": 1},
]


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    ids = np.array([[7, 65536 * 2 + 256 + 5], [9, 0]])
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.jpg")
    return {
        "images": [{"id": 4, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 4, "file_name": "a.png", "segments_info": SEGMENTS}],
        "categories": [{"id": 90, "name": "grass"}, {"id": 3, "name": "car"}],
    }


def read(tmp_path: Path, content: dict[str, Any], classes: ClassMap | None = None) -> Any:
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    return read_panoptic(tmp_path / "p.json", tmp_path, tmp_path, classes)


def test_segments_become_classes_and_crowds_are_ignored(tmp_path: Path, content: dict[str, Any]) -> None:
    data = read(tmp_path, content)
    assert data.classes == ClassMap(("car", "grass"), (3, 90))
    assert read_label_map(data.samples[0].label_map).tolist() == [[0, 1], [255, 255]]
    assert data.pixels.tolist() == [1, 1]
    other = read(tmp_path, content, ClassMap(("grass", "sea", "car"), (1, 2, 3)))
    assert read_label_map(other.samples[0].label_map).tolist() == [[2, 0], [255, 255]]


def test_classes_are_changed(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")

    def changed(changes: ClassChanges, only: tuple[str, ...] | None = None) -> Any:
        return read_panoptic(tmp_path / "p.json", tmp_path, tmp_path, changes=changes, only=only)

    merged = changed(ClassChanges(merge={"all": ("grass", "car")}))
    assert merged.classes == ClassMap(("all",), (90,))
    assert read_label_map(merged.samples[0].label_map).tolist() == [[0, 0], [255, 255]]
    dropped = changed(ClassChanges(rename={"grass": "lawn"}, drop=("car",)))
    assert dropped.classes == ClassMap(("lawn",), (90,))
    assert read_label_map(dropped.samples[0].label_map).tolist() == [[255, 0], [255, 255]]
    chosen = changed(ClassChanges(), ("grass",))
    assert read_label_map(chosen.samples[0].label_map).tolist() == [[255, 0], [255, 255]]
    with pytest.raises(InputError, match=r"p\.json has no class 'gras'. Did you mean 'grass'"):
        changed(ClassChanges(), ("gras",))


def test_what_does_not_fit_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no class 'car'"):
        read(tmp_path, content, ClassMap(("grass", "cat"), (1, 2)))
    content["annotations"][0]["segments_info"] = SEGMENTS[1:]
    with pytest.raises(InputError, match=r"a\.png: .* value\(s\) 7"):
        read(tmp_path, content)
    content["annotations"][0]["segments_info"] = [{"id": 7, "category_id": 1}]
    with pytest.raises(InputError, match=r"image 4, segment 7: the category 1 is not"):
        read(tmp_path, content)
    content["annotations"][0]["image_id"] = 5
    with pytest.raises(InputError, match="image 5 names an image"):
        read(tmp_path, content)
    del content["annotations"][0]["segments_info"]
    with pytest.raises(InputError, match=r"annotations\[0\] lacks segments_info"):
        read(tmp_path, content)
