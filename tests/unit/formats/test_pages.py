"""Files with several pages are read as their first page, and that is said wherever images are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlvision.data.images import read_image
from tlvision.formats.coco import read_coco
from tlvision.formats.coco.read import read_readable
from tlvision.formats.image_headers import read_header
from tlvision.formats.label_maps.folder import read_label_maps
from tlvision.types import ClassMap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A TIFF with two pages, and one with a single page."""
    images = tmp_path / "images"
    images.mkdir()
    pages = [Image.fromarray(np.full((30, 40, 3), value, np.uint8)) for value in (10, 200)]
    pages[0].save(images / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(images / "one.tif")
    return images


SENTENCE = "1 image with several pages, of which the first is read: stack.tif"


def test_a_stack_is_its_first_page_with_a_note(folder: Path, tmp_path: Path) -> None:
    assert [read_header(folder / name).pages for name in ("stack.tif", "one.tif")] == [2, 1]
    image, _ = read_image(folder / "stack.tif", 40, 30, exif=True)
    assert set(np.unique(image)) == {10}
    rows = [
        {"id": n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(("one.tif", "stack.tif"), 1)
    ]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}]
    content = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert read_coco(tmp_path / "train.json", folder).skipped == (f"train.json: {SENTENCE}",)
    assert read_readable(sorted(folder.iterdir()), bits=None)[2] == (f"images: {SENTENCE}",)


def test_and_so_with_label_maps(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("one", "stack"):
        Image.fromarray((np.arange(1200).reshape(30, 40) % 2).astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    data = read_label_maps(folder, tmp_path / "masks", ClassMap(("a", "b"), (0, 1)))
    assert any(SENTENCE in note for note in data.skipped)


def test_the_preview_in_a_jpeg_is_no_page(tmp_path: Path) -> None:
    page = Image.new("RGB", (40, 30))
    page.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[page])
    assert read_header(tmp_path / "phone.jpg").pages == 1
