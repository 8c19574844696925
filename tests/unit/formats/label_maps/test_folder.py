"""Label maps beside images: what is read, and what is refused with a sentence that helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlvision.formats.label_maps import read_class_file, read_label_map, read_label_maps, write_label_map
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, LabelMapFile

CLASSES = ClassMap(("sky", "road", "car"), (0, 1, 2))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "left").mkdir(parents=True)
    (masks / "left").mkdir(parents=True)
    for stem in ("a", "left/b"):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(images / f"{stem}.jpg")
        write_label_map(masks / f"{stem}.png", np.array([[0, 1, 1, 255, 0, 0]] * 4))
    return images, masks


def test_images_and_label_maps_meet_by_stem(folders: tuple[Path, Path]) -> None:
    data = read_label_maps(*folders, CLASSES)
    assert [sample.path.name for sample in data.samples] == ["a.jpg", "b.jpg"]
    assert [(sample.width, sample.height, len(sample.target)) for sample in data.samples] == [(6, 4, 0)] * 2
    assert data.pixels.tolist() == [24, 16, 0]
    assert data.skipped == ("no pixel of 1 class: car",)
    found = read_label_map(data.samples[1].label_map)  # type: ignore[arg-type]
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1, 1, 255, 0, 0]] * 4


def test_of_a_palette_the_indices_count(tmp_path: Path) -> None:
    indices = np.array([[0, 2], [1, 255]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([9] * 768)
    assert image.mode == "P"
    image.save(tmp_path / "p.png")
    values = {0: 0, 1: 1, 2: 2, 255: 255}
    assert read_label_map(LabelMapFile(tmp_path / "p.png", values)).tolist() == indices.tolist()


def test_the_ignore_value_is_one_and_is_named(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    for stem in ("a", "left/b"):
        write_label_map(masks / f"{stem}.png", np.array([[0, 1, 2, 9, 0, 0]] * 4))
    data = read_label_maps(images, masks, CLASSES, {9: IGNORE_INDEX, 0: 0, 1: 1, 2: 2})
    found = read_label_map(data.samples[0].label_map)  # type: ignore[arg-type]
    assert found[0].tolist() == [0, 1, 2, 255, 0, 0]
    with pytest.raises(InputError, match=r"a\.png: .* has the value\(s\) 9; the classes are 0, 1, 2, and 255 is"):
        read_label_maps(images, masks, CLASSES)


def test_an_image_whose_name_is_not_text_is_refused(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    for folder, suffix in ((images, "jpg"), (masks, "png")):
        try:
            (folder / f"a.{suffix}").rename(folder / f"a\udcff.{suffix}")
        except OSError:
            pytest.skip("this file system has no such names")
    with pytest.raises(InputError, match=r"name of the image '.*a\\udcff\.jpg' is not text in UTF-8\. Rename it\."):
        read_label_maps(images, masks, CLASSES)


def test_what_cannot_be_used_is_said_with_the_file(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    (masks / "left" / "b.png").rename(masks / "c.png")
    with pytest.raises(InputError, match=r"1 of 2 images have no label map: left/b"):
        read_label_maps(images, masks, CLASSES)
    (images / "left" / "b.jpg").unlink()
    assert "left out 1 label map without image: c" in read_label_maps(images, masks, CLASSES).skipped
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(masks / "a.png")
    with pytest.raises(InputError, match=r"a\.png: expected .* got the mode 'RGB' of 3 channel"):
        read_label_maps(images, masks, CLASSES)
    write_label_map(masks / "a.png", np.zeros((5, 6)).astype(int))
    with pytest.raises(InputError, match=r"a\.png: the label map is 6 x 5, its image .* 6 x 4; they must"):
        read_label_maps(images, masks, CLASSES)
    (masks / "a.png").write_bytes((masks / "c.png").read_bytes()[:48])
    with pytest.raises(InputError, match=r"a\.png"):
        read_label_maps(images, masks, CLASSES)
    with pytest.raises(InputError, match=r"no-folder.*does not exist"):
        read_label_maps(images.parent / "no-folder", masks, CLASSES)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(images / "a.png")
    with pytest.raises(InputError, match=r"'a\.jpg' and 'a\.png' share a label map"):
        read_label_maps(images, masks, CLASSES)


def test_a_rotated_photo_follows_its_label_map(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for stem, size in (("rotated", (6, 4)), ("stored", (4, 6))):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(images / f"{stem}.jpg", exif=exif)
        write_label_map(masks / f"{stem}.png", np.zeros(size, int))
    data = read_label_maps(images, masks, CLASSES)
    assert {sample.path.stem: sample.exif for sample in data.samples} == {"rotated": True, "stored": False}


def test_the_class_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("sky\n road \n\n", encoding="utf-8")
    assert read_class_file(path) == {"sky": 0, "road": 1}
    path.write_text("sky\n\nroad\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: expected a class name"):
        read_class_file(path)
    path.write_text("sky\nsky\n", encoding="utf-8")
    with pytest.raises(InputError, match="more than one class"):
        read_class_file(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="1 to 255"):
        read_class_file(path)
    with pytest.raises(InputError, match="no file"):
        read_class_file(tmp_path / "other.txt")
