from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.formats.coco import UnlabelledData, read_images
from tlvision.types import ImageFile, InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name, size in (("b.png", (30, 20)), ("a.JPG", (16, 24)), ("below/c.png", (8, 9))):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_folder_gives_every_image_once_by_name(folder: Path) -> None:
    data = read_images(folder)
    assert [(image.image_id, image.path.name, image.width, image.height) for image in data.images] == [
        (1, "a.JPG", 16, 24),
        (2, "b.png", 30, 20),
        (3, "c.png", 8, 9),
    ]
    assert not any(image.exif for image in data.images)


def test_there_is_no_place_for_a_label() -> None:
    fields = {field.name for kind in (UnlabelledData, ImageFile) for field in dataclasses.fields(kind)}
    assert fields == {"path", "images", "image_id", "width", "height", "exif", "bits"}


def test_a_json_gives_its_images_and_nothing_else_of_it_is_read(folder: Path) -> None:
    rows = [{"id": 7, "file_name": "below/c.png"}, {"id": 3, "file_name": "b.png", "width": 30, "height": 20}]
    broken = {"images": rows, "annotations": "not a list", "categories": [{"no": "id"}]}
    data = read_images(folder, write(folder / "all.json", broken))
    assert [(image.image_id, image.path.name) for image in data.images] == [(7, "c.png"), (3, "b.png")]
    without = read_images(folder, write(folder / "images.json", {"images": rows}))
    assert without.images == data.images


def test_the_rotation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    (image,) = read_images(tmp_path).images
    assert (image.width, image.height, image.exif) == (20, 30, True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], "expected a json with the key 'images'"),
        ({"annotations": []}, "expected a json with the key 'images'"),
        ({"images": []}, "'images' is empty"),
        ({"images": [{"id": 1, "file_name": "../x.png"}]}, "leaves the image folder"),
        (
            {"images": [{"id": 7, "file_name": "b\ud83d.png"}]},
            "some.json, image 7: half of a surrogate pair in 'file_name'",
        ),
        ({"images": [{"id": 1, "file_name": "gone.png"}]}, "1 of 1 image files do not exist"),
        ({"images": [{"id": 1, "file_name": "b.png"}, {"id": 1, "file_name": "a.JPG"}]}, "duplicate image id 1"),
        ({"images": [{"id": 1, "file_name": "b.png", "width": 9, "height": 9}]}, "b.png is 30 x 20 but .* says 9 x 9"),
    ],
)
def test_bad_input_is_named(folder: Path, content: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_images(folder, write(folder / "some.json", content))


def test_an_empty_or_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        read_images(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_images(tmp_path / "gone")


def test_a_file_name_that_is_not_text_is_refused(folder: Path) -> None:
    """Linux accepts any bytes as a name; json files and pages of a run do not."""
    try:
        (folder / "b.png").rename(os.fsdecode(os.fsencode(folder) + b"/b\xff.png"))
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(InputError, match=r"name of the image '.*b\\udcff\.png' is not text in UTF-8\. Rename it\."):
        read_images(folder)
