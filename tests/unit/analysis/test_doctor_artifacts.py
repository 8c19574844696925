"""Features that give a class away are found when they are planted, and not otherwise."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from doctor_set import change_json, config_of, findings_of, write_part
from tlvision.analysis.doctor.association import association
from tlvision.analysis.doctor.image_measures import frame_width, jpeg_quality

DOGS = 16
"""The first of 40 training images have a dog."""


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    write_part(tmp_path, "train", 40, second_class_in=DOGS)
    write_part(tmp_path, "val", 12, second_class_in=6)
    return config_of(tmp_path, "train", "val")


def artifacts(values: dict[str, Any]) -> list[str]:
    return [each.sentence for each in findings_of(values) if each.check == "artifacts"]


def edit(folder: Path, numbers: range, change: Callable[[Image.Image], Image.Image]) -> None:
    for number in numbers:
        path = folder / f"{number}.png"
        with Image.open(path) as image:
            changed = change(image.copy())
        changed.save(path)


def framed(image: Image.Image) -> Image.Image:
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=(9, 9, 9), width=10)
    return image


def stamped(image: Image.Image) -> Image.Image:
    pen = ImageDraw.Draw(image)
    pen.rectangle((120, 95, 150, 115), fill=(250, 250, 250))
    pen.line((122, 97, 148, 113), fill=(0, 0, 0), width=4)
    return image


def dim(image: Image.Image) -> Image.Image:
    return image.point(lambda value: value // 3)


PLANTED: dict[str, tuple[Callable[[Image.Image], Image.Image], list[str]]] = {
    "frame": (framed, ["images with 'dog' can be told by their width of a frame of one colour (AUC 1.00"]),
    "stamp": (stamped, ["16 of 16 images with 'dog' and 0 of 24 without show the same in one place"]),
    "brightness": (
        dim,
        [
            "images with 'dog' can be told by their brightness (AUC 0.00, median 34.",
            "images with 'dog' can be told by their contrast (AUC 0.00",
        ],
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_in_one_class_is_found(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    change, expected = PLANTED[name]
    assert artifacts(values) == []
    edit(tmp_path / "train", range(DOGS), change)
    found = artifacts(values)
    for sentence in expected:
        assert any(sentence in each for each in found), found
    others = [each for each in found if not any(sentence in each for sentence in expected)]
    assert all("by their brightness" in each or "by their contrast" in each for each in others), "the same pixels"


def test_what_is_in_all_images_gives_no_class_away(values: dict[str, Any], tmp_path: Path) -> None:
    for change in (framed, stamped):
        edit(tmp_path / "train", range(40), change)
        edit(tmp_path / "val", range(12), change)
    assert artifacts(values) == []


def test_a_feature_of_half_of_a_class_is_not_reported(values: dict[str, Any], tmp_path: Path) -> None:
    """Frames of 8 of 16 images are significant, but the AUC is 0.75."""
    edit(tmp_path / "train", range(8), framed)
    edit(tmp_path / "train", range(2, 6), stamped)
    assert artifacts(values) == []


def test_a_stamp_that_many_other_images_have_is_not_reported(values: dict[str, Any], tmp_path: Path) -> None:
    edit(tmp_path / "train", range(DOGS + 6), stamped)
    assert [each for each in artifacts(values) if "show the same in one place" in each] == []


def as_jpeg(folder: Path, name: str, numbers: range, quality: int) -> None:
    renamed = {}
    for number in numbers:
        path = folder / name / f"{number}.png"
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"), quality=quality)
        path.unlink()
        renamed[path.name] = f"{number}.jpg"

    def rename(content: dict[str, Any]) -> None:
        for row in content["images"]:
            row["file_name"] = renamed.get(row["file_name"], row["file_name"])

    change_json(folder / f"{name}.json", rename)


def test_file_type_and_quality_of_a_class_are_found(values: dict[str, Any], tmp_path: Path) -> None:
    as_jpeg(tmp_path, "train", range(DOGS), 90)
    as_jpeg(tmp_path, "train", range(DOGS, 40), 50)
    as_jpeg(tmp_path, "val", range(12), 90)
    found = artifacts(values)
    assert any(
        "images with 'dog' can be told by their JPEG quality (AUC 1.00, median 90 against 50" in each for each in found
    )


def test_file_type_of_a_part_is_found(values: dict[str, Any], tmp_path: Path) -> None:
    as_jpeg(tmp_path, "train", range(40), 95)
    assert sorted(each[:60] for each in artifacts(values)) == [
        "data.val differs from data.train in file type .jpg (AUC 0.00",
        "data.val differs from data.train in file type .png (AUC 1.00",
    ]


def test_the_size_of_a_class_is_found(values: dict[str, Any], tmp_path: Path) -> None:
    edit(tmp_path / "train", range(DOGS), lambda image: image.resize((200, 120)))

    def resize(content: dict[str, Any]) -> None:
        for row in content["images"][:DOGS]:
            row["width"] = 200

    change_json(tmp_path / "train.json", resize)
    found = artifacts(values)
    assert any("can be told by their width (AUC 1.00, median 200 against 160" in each for each in found)
    assert any("can be told by their width / height (AUC 1.00" in each for each in found)


def test_auc_equals_the_share_of_ordered_pairs() -> None:
    """By definition: the share of pairs in which the row with the outcome is higher, half of it for equal ones."""
    generator = np.random.default_rng(0)
    features = generator.integers(0, 5, (30, 3)).astype(np.float64)
    outcomes = generator.random((30, 2)) < 0.4
    auc, p = association(features, outcomes, permutations=50)
    for row in range(2):
        for column in range(3):
            ones, others = features[outcomes[:, row], column], features[~outcomes[:, row], column]
            pairs = (ones[:, None] > others).mean() + 0.5 * (ones[:, None] == others).mean()
            assert auc[row, column] == pytest.approx(pairs)
    assert p.shape == (2, 3)
    assert ((p > 0) & (p <= 1)).all()


def test_chance_is_rarely_significant() -> None:
    """With 20 features and 5 outcomes of noise, about 5 % of the sets have a corrected p-value below 0.05."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        _, p = association(generator.normal(size=(40, 20)), generator.random((40, 5)) < 0.5, permutations=100)
        hits += bool(p.min() < 0.05)
    assert hits <= 7


@pytest.mark.parametrize("quality", [30, 50, 75, 92])
def test_the_quality_of_a_jpeg_is_read_from_its_table(quality: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    image.save(tmp_path / "a.jpg", quality=quality)
    assert jpeg_quality(tmp_path / "a.jpg") == pytest.approx(quality, abs=1.5)
    image.save(tmp_path / "a.png")
    assert np.isnan(jpeg_quality(tmp_path / "a.png"))


def test_a_frame_keeps_its_width_in_a_jpeg_and_an_even_image_has_none() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300), np.uint8)
    pixels[:20] = pixels[-20:] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    assert frame_width(np.asarray(Image.open(buffer))) == pytest.approx(0.1, abs=0.02)
    assert frame_width(np.full((50, 50), 90, np.uint8)) == 0.0
